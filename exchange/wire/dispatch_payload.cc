#include "exchange/wire/dispatch_payload.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace sheaf {
namespace {

static_assert(std::endian::native == std::endian::little,
              "payloads are sent as they lie in memory");
static_assert(sizeof(ExpertRun) == 8, "a run travels as two int32");

constexpr int kTokensWorthThreads = 32;

using kernels::ActivationBits;

}  // namespace

DispatchLayout::DispatchLayout(ActivationBits bits, uint64_t tokens, uint64_t hidden,
                               uint64_t experts, uint64_t pairs) {
  const uint64_t groups = (hidden + kernels::kActivationGroup - 1) / kernels::kActivationGroup;
  const auto scales_a_group = static_cast<uint64_t>(kernels::ScalesPerGroup(bits));
  scales_at = tokens * groups * static_cast<uint64_t>(kernels::GroupBytes(bits));
  runs_at = scales_at + tokens * groups * scales_a_group * sizeof(float);
  rows_at = runs_at + experts * sizeof(ExpertRun);
  total_bytes = rows_at + pairs * sizeof(int32_t);
}

uint64_t DispatchBytes(const WorkerPlan& plan, const kernels::QuantizedRows& x) {
  return DispatchLayout(x.bits, plan.token_rows.size(), static_cast<uint64_t>(x.k),
                        plan.experts.size(), plan.rows.size())
      .total_bytes;
}

void EncodeDispatch(ThreadPool& pool, const WorkerPlan& plan, const kernels::QuantizedRows& x,
                    FrameHeader& header, uint8_t* out) {
  const size_t tokens = plan.token_rows.size();
  const DispatchLayout layout(x.bits, tokens, static_cast<uint64_t>(x.k), plan.experts.size(),
                              plan.rows.size());
  header.kind = FrameKind::kDispatch;
  header.element =
      x.bits == ActivationBits::k8 ? FrameElement::kInt8Groups : FrameElement::kInt16Groups;
  header.hidden = static_cast<uint32_t>(x.k);
  header.tokens = static_cast<uint32_t>(tokens);
  header.pairs = static_cast<uint32_t>(plan.rows.size());
  header.experts = static_cast<uint32_t>(plan.experts.size());
  header.payload_bytes = layout.total_bytes;

  const size_t plane_bytes = x.row_bytes();
  const size_t scale_bytes = sizeof(float) * x.scales_a_row();
  const auto copy = [&](int64_t token) {
    const int row = plan.token_rows[static_cast<size_t>(token)];
    std::memcpy(out + plane_bytes * token, x.row_planes(row), plane_bytes);
    std::memcpy(out + layout.scales_at + scale_bytes * token, x.row_scales(row), scale_bytes);
  };
  if (tokens < kTokensWorthThreads) {
    for (size_t token = 0; token < tokens; ++token) copy(static_cast<int64_t>(token));
  } else {
    pool.ParallelFor(static_cast<int64_t>(tokens), [&](int64_t token, int) { copy(token); });
  }
  std::memcpy(out + layout.runs_at, plan.experts.data(), plan.experts.size() * sizeof(ExpertRun));
  std::memcpy(out + layout.rows_at, plan.rows.data(), plan.rows.size() * sizeof(int32_t));
}

absl::Status DecodeDispatch(const FrameHeader& header, std::span<const uint8_t> payload,
                            DispatchView& view) {
  const auto wrong = [&](const char* what, uint64_t wanted, uint64_t got) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(header), ": ", what, ": wanted ", wanted, ", got ", got));
  };
  if (header.kind != FrameKind::kDispatch)
    return absl::InvalidArgumentError(Describe(header) + ": not a dispatch");
  if (header.hidden == 0 || header.tokens == 0 || header.pairs == 0 || header.experts == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(header), ": empty (hidden ", header.hidden, ", tokens ",
                     header.tokens, ", pairs ", header.pairs, ", experts ", header.experts, ")"));
  }
  const ActivationBits bits =
      header.element == FrameElement::kInt8Groups ? ActivationBits::k8 : ActivationBits::k16;
  const DispatchLayout layout(bits, header.tokens, header.hidden, header.experts, header.pairs);
  if (payload.size() != layout.total_bytes || header.payload_bytes != layout.total_bytes) {
    return wrong("payload bytes", layout.total_bytes, payload.size());
  }
  if (reinterpret_cast<uintptr_t>(payload.data()) % sizeof(float) != 0) {
    return absl::InvalidArgumentError(Describe(header) + ": payload is not 4-byte aligned");
  }

  view.experts.resize(header.experts);
  std::memcpy(view.experts.data(), payload.data() + layout.runs_at,
              header.experts * sizeof(ExpertRun));
  view.rows = {reinterpret_cast<const int32_t*>(payload.data() + layout.rows_at), header.pairs};
  uint64_t pairs = 0;
  for (size_t i = 0; i < view.experts.size(); ++i) {
    const ExpertRun& run = view.experts[i];
    if (run.expert < 0 || (i > 0 && run.expert <= view.experts[i - 1].expert)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(header), ": expert ", run.expert, " at ", i, " is not ascending"));
    }
    if (run.num_rows < 1 || pairs + static_cast<uint64_t>(run.num_rows) > header.pairs) {
      return wrong("rows of the experts", header.pairs,
                   pairs + static_cast<uint64_t>(static_cast<uint32_t>(run.num_rows)));
    }
    for (int32_t r = 0; r < run.num_rows; ++r) {
      const int32_t row = view.rows[pairs + static_cast<uint64_t>(r)];
      const bool ascending = r == 0 || row > view.rows[pairs + static_cast<uint64_t>(r) - 1];
      if (row < 0 || static_cast<uint32_t>(row) >= header.tokens || !ascending) {
        return absl::InvalidArgumentError(absl::StrCat(Describe(header), ": expert ", run.expert,
                                                       ": row ", row, " of ", header.tokens,
                                                       " is outside or not ascending"));
      }
    }
    pairs += static_cast<uint64_t>(run.num_rows);
  }
  if (pairs != header.pairs) return wrong("rows of the experts", header.pairs, pairs);

  view.x.num_rows = static_cast<int>(header.tokens);
  view.x.k = static_cast<int>(header.hidden);
  view.x.bits = bits;
  view.x.planes = reinterpret_cast<const int8_t*>(payload.data());
  view.x.scales = reinterpret_cast<const float*>(payload.data() + layout.scales_at);
  view.x.sums = nullptr;
  return absl::OkStatus();
}

}  // namespace sheaf
