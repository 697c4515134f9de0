#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels::ref {
namespace {

// Where input i of a group, or of a part of one, lies in a plane.
int PlaneIndex(int i) {
  for (int slot = 0; slot < 8; ++slot) {
    if (kPlaneOrder[slot] == i % 8) return i / 8 * 8 + slot;
  }
  return -1;
}

}  // namespace

void QuantizeRow(const float* x, int k, int8_t* planes, float* scales, int32_t* sums) {
  for (int group = 0; group < NumGroups(k); ++group) {
    const int first = group * kActivationGroup;
    const int count = std::min(kActivationGroup, k - first);
    int8_t* hi = planes + size_t{kGroupBytes} * group;
    int8_t* lo = hi + kActivationGroup;
    std::memset(hi, 0, 2 * kActivationGroup);
    std::fill_n(sums + size_t{kSumsPerGroup} * group, kSumsPerGroup, 0);
    float amax = 0;
    bool finite = true;
    for (int i = 0; i < count; ++i) {
      finite = finite && std::isfinite(x[first + i]);
      amax = std::max(amax, std::fabs(x[first + i]));
    }
    if (!finite || amax < kSmallestGroupMaximum) {
      scales[group] = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    scales[group] = amax / 32512.0f;
    const float inverse = 32512.0f / amax;
    for (int i = 0; i < count; ++i) {
      const int q = static_cast<int>(std::nearbyint(x[first + i] * inverse));
      const int high = (q + 128) >> 8;
      hi[PlaneIndex(i)] = static_cast<int8_t>(high);
      lo[PlaneIndex(i)] = static_cast<int8_t>(q - 256 * high);
      sums[kSumsPerGroup * group + i / kSumGranule] += q;
    }
  }
}

void SumRow(const int8_t* planes, int k, int32_t* sums) {
  for (int granule = 0; granule < NumGroups(k) * kSumsPerGroup; ++granule) {
    const int8_t* hi = planes + size_t{kGroupBytes} * (granule / kSumsPerGroup) +
                       kSumGranule * (granule % kSumsPerGroup);
    int32_t sum = 0;
    for (int i = 0; i < kSumGranule; ++i) sum += 256 * hi[i] + hi[i + kActivationGroup];
    sums[granule] = sum;
  }
}

void DequantizeRow(const int8_t* planes, const float* scales, int k, float* x) {
  for (int i = 0; i < k; ++i) {
    const int group = i / kActivationGroup;
    const int8_t* hi = planes + size_t{kGroupBytes} * group + PlaneIndex(i % kActivationGroup);
    x[i] = scales[group] * static_cast<float>(256 * hi[0] + hi[kActivationGroup]);
  }
}

void QuantizeByteRow(const float* x, int k, int8_t* bytes, float* scales, int32_t* sums) {
  for (int granule = 0; granule < NumGroups(k) * kSumsPerGroup; ++granule) {
    const int first = granule * kSumGranule;
    const int count = std::clamp(k - first, 0, kSumGranule);
    int8_t* out = bytes + first;
    std::memset(out, 0, kSumGranule);
    sums[granule] = 0;
    float amax = 0;
    bool finite = true;
    for (int i = 0; i < count; ++i) {
      finite = finite && std::isfinite(x[first + i]);
      amax = std::max(amax, std::fabs(x[first + i]));
    }
    if (!finite || amax < kSmallestGroupMaximum) {
      scales[granule] = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    scales[granule] = amax / 127.0f;
    const float inverse = 127.0f / amax;
    for (int i = 0; i < count; ++i) {
      const int q = static_cast<int>(std::nearbyint(x[first + i] * inverse));
      out[PlaneIndex(i)] = static_cast<int8_t>(q);
      sums[granule] += q;
    }
  }
}

void SumByteRow(const int8_t* bytes, int k, int32_t* sums) {
  for (int granule = 0; granule < NumGroups(k) * kSumsPerGroup; ++granule) {
    sums[granule] = 0;
    for (int i = 0; i < kSumGranule; ++i) sums[granule] += bytes[granule * kSumGranule + i];
  }
}

void DequantizeByteRow(const int8_t* bytes, const float* scales, int k, float* x) {
  for (int i = 0; i < k; ++i) {
    const int granule = i / kSumGranule;
    const int8_t q = bytes[granule * kSumGranule + PlaneIndex(i % kSumGranule)];
    x[i] = scales[granule] * static_cast<float>(q);
  }
}

}  // namespace sheaf::kernels::ref
