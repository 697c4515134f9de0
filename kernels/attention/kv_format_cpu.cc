#include "kernels/simd/highway_targets.h"
#include "kernels/attention/kv_format.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/kv_format_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention/kv_format-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

void StoreKvSimd(const float* x, size_t count, KvFormat format, uint8_t* out) {
  switch (format) {
    case KvFormat::kF32:
      return StoreKvRow<KvFormat::kF32>(x, count, out);
    case KvFormat::kBF16:
      return StoreKvRow<KvFormat::kBF16>(x, count, out);
    case KvFormat::kFp8E4M3:
      return StoreKvRow<KvFormat::kFp8E4M3>(x, count, out);
    case KvFormat::kFp8E5M2:
      return StoreKvRow<KvFormat::kFp8E5M2>(x, count, out);
  }
}

void LoadKvSimd(const uint8_t* in, size_t count, KvFormat format, float* out) {
  LoadKvRow<false>(in, count, format, out);
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(StoreKvSimd);
HWY_EXPORT(LoadKvSimd);

void StoreKv(const float* x, size_t count, KvFormat format, void* out) {
  if (internal::UseReference()) return ref::StoreKv(x, count, format, out);
  HWY_DYNAMIC_DISPATCH(StoreKvSimd)(x, count, format, static_cast<uint8_t*>(out));
}

void LoadKv(const void* in, size_t count, KvFormat format, float* out) {
  if (internal::UseReference()) return ref::LoadKv(in, count, format, out);
  HWY_DYNAMIC_DISPATCH(LoadKvSimd)(static_cast<const uint8_t*>(in), count, format, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE
