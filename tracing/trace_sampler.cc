#include "tracing/trace_sampler.h"

#include <algorithm>
#include <cmath>

namespace sheaf {
namespace {

constexpr size_t kRandomBytes = 7;
constexpr double kValues = 72057594037927936.0;  // 2^56

}  // namespace

TraceSampler::TraceSampler(double ratio) {
  const double share_dropped = 1.0 - std::clamp(ratio, 0.0, 1.0);
  first_kept_ = static_cast<uint64_t>(std::llround(share_dropped * kValues));
}

bool TraceSampler::Keeps(const TraceId& trace) const {
  uint64_t value = 0;
  for (size_t i = trace.size() - kRandomBytes; i < trace.size(); ++i) value = value << 8 | trace[i];
  return value >= first_kept_;
}

}  // namespace sheaf
