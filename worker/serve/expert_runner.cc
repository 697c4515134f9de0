#include "worker/serve/expert_runner.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "exchange/wire/combine_payload.h"

namespace sheaf {
namespace {

// Of vectors that are held beside the link's memory: far above any batch.
constexpr size_t kMaxVectorBytes = size_t{4} << 30;

}  // namespace

ExpertRunner::ExpertRunner(const HeldExperts& experts, const ModelIdentity& model, ThreadPool& pool)
    : experts_(experts),
      model_(model),
      pool_(pool),
      compute_(experts.NewCompute(pool)),
      work_(static_cast<size_t>(compute_->depth())) {}

void ExpertRunner::Begin(const ArrivedFrame& dispatch) {
  SHEAF_CHECK(under_way_ < depth(), "no more is begun than may be under way");
  Work& work = work_[(oldest_ + static_cast<size_t>(under_way_)) % work_.size()];
  ++under_way_;
  work.dispatch = dispatch.header;
  work.not_held.clear();
  work.status = Plan(dispatch, work);
  if (!work.status.ok() || !work.not_held.empty()) return;
  work.status = compute_->Submit({dispatch.header.layer, work.view.x, work.jobs});
}

absl::StatusOr<FrameHeader> ExpertRunner::Finish(AnswerMemory memory) {
  SHEAF_CHECK(under_way_ > 0, "what is finished was begun");
  Work& work = work_[oldest_];
  oldest_ = (oldest_ + 1) % work_.size();
  --under_way_;
  absl::StatusOr<FrameHeader> answer = Answer(work, memory);
  work.experts.clear();  // what is dropped must not wait for the next dispatch
  work.jobs.clear();
  return answer;
}

absl::StatusOr<FrameHeader> ExpertRunner::Answer(Work& work, AnswerMemory memory) {
  if (!work.status.ok()) return AnswerError(work.dispatch, work.status, memory);
  if (!work.not_held.empty()) {
    const size_t bytes = work.not_held.size() * sizeof(int32_t);
    SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> payload, memory(bytes));
    std::memcpy(payload.data(), work.not_held.data(), bytes);
    return NotHeldHeaderFor(work.dispatch, static_cast<uint32_t>(work.not_held.size()));
  }
  const FrameHeader header = CombineHeaderFor(work.dispatch);
  const absl::StatusOr<std::span<uint8_t>> combine = memory(header.payload_bytes);
  if (!combine.ok()) {
    compute_->Abandon();
    return combine.status();
  }
  const absl::Status computed = Compute(work, *combine);
  if (!computed.ok()) return AnswerError(work.dispatch, computed, memory);
  return header;
}

absl::StatusOr<FrameHeader> ExpertRunner::AnswerError(const FrameHeader& dispatch,
                                                      const absl::Status& why,
                                                      AnswerMemory memory) {
  const std::string text = std::string(why.message()).substr(0, kMaxErrorTextBytes);
  SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> payload, memory(text.size()));
  std::copy(text.begin(), text.end(), payload.begin());
  return ErrorHeaderFor(dispatch, text.size());
}

absl::Status ExpertRunner::Plan(const ArrivedFrame& dispatch, Work& work) const {
  const FrameHeader& header = dispatch.header;
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
  SHEAF_RETURN_IF_ERROR(DecodeDispatch(header, dispatch.payload, work.view));

  if (header.answer == FrameElement::kInt16Groups &&
      size_t{header.pairs} * header.hidden * sizeof(float) > kMaxVectorBytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: %d pairs are too many", Describe(header), header.pairs));
  }

  // Before anything is computed: every expert is here and fits.
  size_t pair = 0;
  for (const ExpertRun& run : work.view.experts) {
    if (run.expert >= model_.num_experts) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: expert: wanted 0..%d, got %d",
                                                        Describe(header), model_.num_experts - 1,
                                                        run.expert));
    }
    HeldExpertPtr expert = experts_.Find(header.layer, ExpertId(run.expert));
    if (expert == nullptr) {
      work.not_held.push_back(run.expert);
      continue;
    }
    if (expert->hidden_size() != work.view.x.k) {
      return absl::InternalError(absl::StrFormat("layer %d expert %d reads %d inputs, not %d",
                                                 header.layer.value(), run.expert,
                                                 expert->hidden_size(), work.view.x.k));
    }
    work.jobs.push_back(
        {expert.get(), work.view.rows.subspan(pair, static_cast<size_t>(run.num_rows))});
    pair += static_cast<size_t>(run.num_rows);
    work.experts.push_back(std::move(expert));
  }
  return absl::OkStatus();
}

absl::Status ExpertRunner::Compute(Work& work, std::span<uint8_t> combine) {
  if (work.dispatch.answer == FrameElement::kFloat32)
    return compute_->Complete(reinterpret_cast<float*>(combine.data()));
  const size_t pairs = work.dispatch.pairs, hidden = work.dispatch.hidden;
  float* const vectors =
      reinterpret_cast<float*>(vectors_.Resize(pairs * hidden * sizeof(float)));
  SHEAF_RETURN_IF_ERROR(compute_->Complete(vectors));
  EncodeInt16Combine(pool_, vectors, pairs, hidden, combine.data());
  return absl::OkStatus();
}

}  // namespace sheaf
