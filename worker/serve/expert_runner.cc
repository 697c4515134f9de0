#include "worker/serve/expert_runner.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/wire/combine_payload.h"

namespace sheaf {
namespace {

constexpr int kRowsWorthThreads = 32;
// Of vectors that are held beside the link's memory: far above any batch.
constexpr size_t kMaxVectorBytes = size_t{4} << 30;

}  // namespace

ExpertRunner::ExpertRunner(const ExpertStore& store, const ModelIdentity& model, ThreadPool& pool)
    : store_(store), model_(model), pool_(pool) {}

absl::StatusOr<FrameHeader> ExpertRunner::Run(const ArrivedFrame& dispatch, AnswerMemory memory) {
  const absl::Status planned = PlanJobs(dispatch);
  absl::StatusOr<FrameHeader> answer;
  if (!planned.ok()) {
    answer = AnswerError(dispatch.header, planned, memory);
  } else if (!not_held_.empty()) {
    const size_t bytes = not_held_.size() * sizeof(int32_t);
    SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> payload, memory(bytes));
    std::memcpy(payload.data(), not_held_.data(), bytes);
    answer = NotHeldHeaderFor(dispatch.header, static_cast<uint32_t>(not_held_.size()));
  } else {
    const FrameHeader header = CombineHeaderFor(dispatch.header);
    SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> combine, memory(header.payload_bytes));
    const absl::Status computed = Compute(dispatch.header, combine);
    answer = computed.ok() ? absl::StatusOr<FrameHeader>(header)
                           : AnswerError(dispatch.header, computed, memory);
  }
  experts_.clear();  // what is dropped must not wait for the next dispatch
  jobs_.clear();
  return answer;
}

absl::StatusOr<FrameHeader> ExpertRunner::AnswerError(const FrameHeader& dispatch,
                                                      const absl::Status& why,
                                                      AnswerMemory memory) {
  const std::string text = std::string(why.message()).substr(0, kMaxErrorTextBytes);
  SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> payload, memory(text.size()));
  std::copy(text.begin(), text.end(), payload.begin());
  return ErrorHeaderFor(dispatch, text.size());
}

absl::Status ExpertRunner::PlanJobs(const ArrivedFrame& dispatch) {
  const FrameHeader& header = dispatch.header;
  experts_.clear();
  jobs_.clear();
  not_held_.clear();
  if (header.model != static_cast<uint32_t>(model_.digest)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: model: wanted %08x, got %08x", Describe(header),
                        static_cast<uint32_t>(model_.digest), header.model));
  }
  if (header.hidden != static_cast<uint32_t>(model_.hidden_size)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: hidden size: wanted %d, got %d",
                                                      Describe(header), model_.hidden_size,
                                                      header.hidden));
  }
  if (header.layer.value() < model_.first_moe_layer || header.layer.value() >= model_.num_layers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: layer: wanted %d..%d", Describe(header), model_.first_moe_layer,
                        model_.num_layers - 1));
  }
  if (header.answer != FrameElement::kFloat32 && header.answer != FrameElement::kInt16Groups) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: answer: wanted float32 or int16 groups, got %d", Describe(header),
        static_cast<int>(header.answer)));
  }
  SHEAF_RETURN_IF_ERROR(DecodeDispatch(header, dispatch.payload, view_));

  // Before anything is computed: every expert is here and fits.
  size_t pair = 0;
  for (const ExpertRun& run : view_.experts) {
    if (run.expert >= model_.num_experts) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: expert: wanted 0..%d, got %d",
                                                        Describe(header), model_.num_experts - 1,
                                                        run.expert));
    }
    HeldExpertPtr expert = store_.Find(header.layer, ExpertId(run.expert));
    if (expert == nullptr) {
      not_held_.push_back(run.expert);
      continue;
    }
    if (expert->weights().gate.k() != view_.x.k) {
      return absl::InternalError(absl::StrFormat("layer %d expert %d reads %d inputs, not %d",
                                                 header.layer.value(), run.expert,
                                                 expert->weights().gate.k(), view_.x.k));
    }
    jobs_.push_back(
        {&expert->weights(), view_.rows.subspan(pair, static_cast<size_t>(run.num_rows)), nullptr});
    pair += static_cast<size_t>(run.num_rows);
    experts_.push_back(std::move(expert));
  }
  return absl::OkStatus();
}

absl::Status ExpertRunner::Compute(const FrameHeader& dispatch, std::span<uint8_t> combine) {
  const bool as_float32 = dispatch.answer == FrameElement::kFloat32;
  const size_t pairs = dispatch.pairs, hidden = dispatch.hidden;
  if (!as_float32 && pairs * hidden * sizeof(float) > kMaxVectorBytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: %d pairs are too many", Describe(dispatch), pairs));
  }
  float* const vectors = reinterpret_cast<float*>(
      as_float32 ? combine.data() : vectors_.Resize(pairs * hidden * sizeof(float)));
  float* out = vectors;
  for (kernels::ExpertJob& job : jobs_) {
    job.out = out;
    out += job.rows.size() * hidden;
  }

  const size_t sums_a_row = static_cast<size_t>(view_.x.groups()) * kernels::kSumsPerGroup;
  sums_.resize(sums_a_row * static_cast<size_t>(view_.x.num_rows));
  const auto sum = [&](int64_t row) {
    kernels::SumRow(view_.x.row_planes(static_cast<int>(row)), view_.x.k,
                    sums_.data() + sums_a_row * static_cast<size_t>(row));
  };
  if (view_.x.num_rows < kRowsWorthThreads) {
    for (int row = 0; row < view_.x.num_rows; ++row) sum(row);
  } else {
    pool_.ParallelFor(view_.x.num_rows, [&](int64_t row, int) { sum(row); });
  }
  view_.x.sums = sums_.data();
  kernels::RunExperts(pool_, view_.x, jobs_, scratch_);
  if (!as_float32) EncodeInt16Combine(pool_, vectors, pairs, hidden, combine.data());
  return absl::OkStatus();
}

}  // namespace sheaf
