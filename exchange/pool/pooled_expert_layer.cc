#include "exchange/pool/pooled_expert_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/layer/local_expert_layer.h"
#include "exchange/ordered_sum.h"

namespace sheaf {
namespace {

constexpr std::chrono::milliseconds kGiveUpQuestion{50};
// A part of so many tokens tells what one takes.
constexpr int kTellingTokens = 256;
// While waiting, links that owe nothing and new links are looked at this often.
constexpr std::chrono::milliseconds kLookAtAll{5};

}  // namespace

PooledExpertLayer::PooledExpertLayer(LinkPool& links, ThreadPool& pool,
                                     const PooledExpertLayerOptions& options,
                                     PooledLayerObserver* observer)
    : links_(links), pool_(pool), options_(options), observer_(observer) {
  LinkPool::Session session(links_);
  exchange_ = std::make_unique<LayerExchange>(
      session.links(), pool_,
      LayerExchangeOptions{options.combine_element, options.machine, options.referee,
                           options.share_cores},
      observer);
  const ModelIdentity& model = links_.model();
  pair_counts_.resize(size_t(model.num_layers - model.first_moe_layer) *
                      size_t(model.num_experts));
}

PooledExpertLayer::~PooledExpertLayer() = default;

absl::Status PooledExpertLayer::Begin(const RoutedBatch& batch) {
  if (session_.has_value())
    return End(absl::InternalError("a batch was begun before the last one was finished"));
  const ModelIdentity& model = links_.model();
  if (batch.x.k != model.hidden_size || batch.layer.value() < model.first_moe_layer ||
      batch.layer.value() >= model.num_layers) {
    failed_ = absl::InvalidArgumentError(absl::StrFormat(
        "layer %d with vectors of %d floats: the model has layers %d to %d of %d",
        batch.layer.value(), batch.x.k, model.first_moe_layer, model.num_layers - 1,
        model.hidden_size));
    return failed_;
  }
  batch_ = batch;
  failed_ = absl::OkStatus();
  session_.emplace(links_);
  const absl::Status begun = BeginChunk(0);
  return begun.ok() ? begun : End(begun);
}

absl::Status PooledExpertLayer::Finish(float* sum) {
  if (!failed_.ok()) return failed_;
  if (!session_.has_value()) return absl::FailedPreconditionError("Finish without Begin");
  absl::Status status = FinishChunk(sum);
  while (status.ok() && first_token_ + num_tokens_ < batch_.x.num_rows) {
    status = BeginChunk(first_token_ + num_tokens_);
    if (status.ok()) status = FinishChunk(sum + size_t(first_token_) * size_t(batch_.x.k));
  }
  return End(std::move(status));
}

absl::Status PooledExpertLayer::End(absl::Status status) {
  if (!status.ok() && observer_ != nullptr)
    observer_->OnGivenUp(batch_.layer, status, exchange_->machine().Orphans());
  exchange_->End(links_.clock().Now());
  session_.reset();
  failed_ = status;
  return status;
}

int PooledExpertLayer::ChunkTokens() const {
  const int least = std::max(1, options_.chunk_tokens);
  const int most = std::max(least, options_.max_chunk_tokens);
  if (token_time_ <= Duration::zero()) return least;
  return static_cast<int>(
      std::clamp<int64_t>(Duration(options_.chunk_time) / token_time_, least, most));
}

absl::Status PooledExpertLayer::BeginChunk(int first_token) {
  const TimePoint start = links_.clock().Now();
  first_token_ = first_token;
  chunk_began_ = start;
  num_tokens_ = std::min(ChunkTokens(), batch_.x.num_rows - first_token);
  const ExchangeChunk chunk{batch_.step, batch_.layer,
                            SliceRows(batch_.x, first_token, num_tokens_), batch_.top_k,
                            batch_.expert_ids + size_t(first_token) * size_t(batch_.top_k)};
  SHEAF_RETURN_IF_ERROR(exchange_->Begin(chunk, start));
  session_->Turn(start);  // the links have been read
  CountPairs(chunk);
  exchange_->totals().dispatch += links_.clock().Now() - start;
  return absl::OkStatus();
}

void PooledExpertLayer::CountPairs(const ExchangeChunk& chunk) {
  const ModelIdentity& model = links_.model();
  uint32_t* counts = pair_counts_.data() + size_t(chunk.layer.value() - model.first_moe_layer) *
                                               size_t(model.num_experts);
  const int slots = chunk.x.num_rows * chunk.top_k;
  for (int slot = 0; slot < slots; ++slot) ++counts[chunk.expert_ids[slot]];
}

absl::Status PooledExpertLayer::FinishChunk(float* sum) {
  const TimePoint start = links_.clock().Now();
  SHEAF_RETURN_IF_ERROR(WaitForAnswers());
  SumInExpertOrder(pool_, num_tokens_, batch_.top_k, batch_.x.k,
                   batch_.weights + size_t(first_token_) * size_t(batch_.top_k),
                   exchange_->vectors(), sum);
  const TimePoint end = links_.clock().Now();
  exchange_->End(end);
  exchange_->totals().combine += end - start;
  if (num_tokens_ >= std::min(kTellingTokens, options_.chunk_tokens))
    token_time_ = (end - chunk_began_) / num_tokens_;
  return absl::OkStatus();
}

absl::Status PooledExpertLayer::WaitForAnswers() {
  TimePoint now = links_.clock().Now();
  TimePoint look_at_all = now + kLookAtAll;
  TimePoint question = now + kGiveUpQuestion;
  bool parked = false;
  for (;;) {
    if (exchange_->done()) return absl::OkStatus();
    SHEAF_RETURN_IF_ERROR(exchange_->given_up());
    const uint32_t rung = session_->bell().rings();
    now = links_.clock().Now();
    const bool all = now >= look_at_all;
    if (exchange_->Poll(now, all)) continue;
    if (all) {
      session_->Turn(now);
      look_at_all = now + kLookAtAll;
    }
    if (exchange_->Tick(now)) continue;
    if (now >= question) {
      if (options_.give_up && options_.give_up()) {
        return absl::AbortedError(
            absl::StrFormat("layer %d is not waited for any more", batch_.layer.value()));
      }
      question = now + kGiveUpQuestion;
    }
    if (!parked && options_.wait.park_threads) pool_.Park();
    parked = true;
    if (session_->bell().LookPast(rung, options_.wait.look)) continue;
    session_->bell().WaitPast(rung, std::min({exchange_->WakeAt(), look_at_all, question}));
  }
}

ExchangeTotals PooledExpertLayer::TakeTotals() {
  exchange_->totals().layers = exchange_->TakeStatistics();
  return std::exchange(exchange_->totals(), {});
}

std::vector<uint32_t> PooledExpertLayer::TakePairCounts() {
  std::vector<uint32_t> counts(pair_counts_.size());
  counts.swap(pair_counts_);
  return counts;
}

}  // namespace sheaf
