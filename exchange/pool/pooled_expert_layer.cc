#include "exchange/pool/pooled_expert_layer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/local_expert_layer.h"
#include "exchange/ordered_sum.h"
#include "exchange/wire/dispatch_payload.h"

namespace sheaf {
namespace {

constexpr std::chrono::milliseconds kGiveUpQuestion{50};
// While waiting, links that owe nothing and new links are looked at this often.
constexpr std::chrono::milliseconds kLookAtAll{5};

int64_t FrameBytes(const FrameHeader& header) {
  return static_cast<int64_t>(kFrameHeaderBytes + header.payload_bytes);
}

}  // namespace

PooledExpertLayer::PooledExpertLayer(LinkPool& links, ThreadPool& pool,
                                     const PooledExpertLayerOptions& options,
                                     PooledLayerObserver* observer)
    : links_(links), pool_(pool), options_(options), observer_(observer) {
  LinkPool::Session session(links_);
  machine_ = std::make_unique<LayerMachine>(session.links().table(), session.links().times(),
                                            options_.machine);
  const ModelIdentity& model = links_.model();
  answered_by_.resize(size_t(model.num_experts));
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
  session_.emplace(links_);
  failed_ = BeginChunk(0);
  if (!failed_.ok()) return End(failed_);
  return absl::OkStatus();
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
  if (!session_.has_value()) return status;
  const TimePoint now = links_.clock().Now();
  if (!status.ok() && observer_ != nullptr)
    observer_->OnGivenUp(batch_.layer, status, machine_->Orphans());
  machine_->End(now);
  disputes_.clear();
  session_.reset();
  failed_ = status;
  return status;
}

absl::Status PooledExpertLayer::BeginChunk(int first_token) {
  const TimePoint start = links_.clock().Now();
  first_token_ = first_token;
  num_tokens_ = std::min(std::max(1, options_.chunk_tokens), batch_.x.num_rows - first_token);
  chunk_ = SliceRows(batch_.x, first_token, num_tokens_);
  PoolLinks& links = session_->links();
  // What came since the last layer: announcements, late answers, lost links.
  PoolEvent event;
  while (links.Next(start, true, event)) Take(event, start);
  links.Release();
  session_->Turn(start);
  while (links.Next(start, false, event)) Take(event, start);
  links.Release();

  const size_t first_slot = size_t(first_token) * size_t(batch_.top_k);
  vectors_.resize(size_t(num_tokens_) * size_t(batch_.top_k));
  if (options_.combine_element != FrameElement::kFloat32)
    expanded_.Resize(vectors_.size() * size_t(batch_.x.k) * sizeof(float));
  disputes_.clear();
  settled_.clear();
  SHEAF_RETURN_IF_ERROR(machine_->Begin(
      {batch_.layer, num_tokens_, batch_.top_k, batch_.expert_ids + first_slot}, start));
  CountPairs();
  SendAsks(start);
  totals_.dispatch += links_.clock().Now() - start;
  return absl::OkStatus();
}

void PooledExpertLayer::CountPairs() {
  const ModelIdentity& model = links_.model();
  uint32_t* counts = pair_counts_.data() + size_t(batch_.layer.value() - model.first_moe_layer) *
                                               size_t(model.num_experts);
  const int32_t* ids = batch_.expert_ids + size_t(first_token_) * size_t(batch_.top_k);
  for (size_t slot = 0; slot < vectors_.size(); ++slot) ++counts[ids[slot]];
}

int PooledExpertLayer::SendAsks(TimePoint now) {
  int handled = 0;
  Ask ask;
  while (machine_->NextAsk(ask)) {
    SendAsk(ask, now);
    ++handled;
  }
  return handled;
}

void PooledExpertLayer::SendAsk(const Ask& ask, TimePoint now) {
  PoolLinks& links = session_->links();
  const WorkerPlan& plan = *ask.plan;
  const absl::StatusOr<std::span<uint8_t>> memory =
      links.Reserve(ask.worker, DispatchBytes(plan, batch_.x.k), now);
  absl::Status sent = memory.status();
  FrameHeader header;
  if (sent.ok()) {
    EncodeDispatch(pool_, plan, chunk_, header, memory->data());
    header.step = batch_.step;
    header.layer = batch_.layer;
    header.answer = options_.combine_element;
    const double work = WorkOf(static_cast<int>(plan.experts.size()), plan.num_pairs());
    sent = links.Send(ask.worker, ask.id, header, links.times().Expected(ask.worker, work), now);
    if (sent.ok()) {
      machine_->Sent(ask.id, now);
      ExchangeTotals::Worker& totals = TotalsOf(ask.worker);
      totals.sent_bytes += FrameBytes(header);
      totals.pairs += plan.num_pairs();
      totals.units += work;
      return;
    }
  }
  // A broken link tells the machine by its event.
  if (absl::IsResourceExhausted(sent)) machine_->NotSent(ask.id, now);
}

absl::Status PooledExpertLayer::FinishChunk(float* sum) {
  const TimePoint start = links_.clock().Now();
  SHEAF_RETURN_IF_ERROR(WaitForAnswers());
  SettleDisputes();
  SumInExpertOrder(pool_, num_tokens_, batch_.top_k, batch_.x.k,
                   batch_.weights + size_t(first_token_) * size_t(batch_.top_k), vectors_.data(),
                   sum);
  const TimePoint end = links_.clock().Now();
  machine_->End(end);
  session_->links().Release();
  totals_.combine += end - start;
  return absl::OkStatus();
}

absl::Status PooledExpertLayer::WaitForAnswers() {
  PoolLinks& links = session_->links();
  TimePoint now = links_.clock().Now();
  TimePoint look_at_all = now + kLookAtAll;
  TimePoint question = now + kGiveUpQuestion;
  bool parked = false;
  for (;;) {
    SendAsks(now);
    if (machine_->done()) return absl::OkStatus();
    SHEAF_RETURN_IF_ERROR(machine_->given_up());
    const uint32_t rung = session_->bell().rings();
    now = links_.clock().Now();
    const bool all = now >= look_at_all;
    bool news = false;
    PoolEvent event;
    while (!machine_->done() && links.Next(now, all, event)) {
      Take(event, now);
      SendAsks(now);
      news = true;
    }
    if (news) continue;
    if (all) {
      session_->Turn(now);
      look_at_all = now + kLookAtAll;
    }
    machine_->Tick(now);
    if (SendAsks(now) > 0 || !machine_->given_up().ok() || machine_->done()) continue;
    if (now >= question) {
      if (options_.give_up && options_.give_up()) {
        return absl::AbortedError(
            absl::StrFormat("layer %d is not waited for any more", batch_.layer.value()));
      }
      question = now + kGiveUpQuestion;
    }
    if (!parked) pool_.Park();
    parked = true;
    session_->bell().WaitPast(rung, std::min({machine_->WakeAt(), look_at_all, question}));
  }
}

void PooledExpertLayer::Take(const PoolEvent& event, TimePoint now) {
  switch (event.kind) {
    case PoolEvent::Kind::kLinkLost:
      machine_->LinkLost(event.worker, event.why, now);
      return;
    case PoolEvent::Kind::kHoldings:
      machine_->TableChanged(event.worker, now);
      return;
    case PoolEvent::Kind::kAnswer:
      break;
  }
  TotalsOf(event.worker).received_bytes += FrameBytes(event.frame.header);
  switch (event.frame.header.kind) {
    case FrameKind::kCombine:
      TakeCombine(event, now);
      return;
    case FrameKind::kNotHeld: {
      std::vector<int32_t> experts(event.frame.payload.size() / sizeof(int32_t));
      std::memcpy(experts.data(), event.frame.payload.data(), experts.size() * sizeof(int32_t));
      machine_->NotHeld(event.worker, event.ask, experts, now);
      return;
    }
    default:
      machine_->Error(event.worker, event.ask,
                      std::string(event.frame.payload.begin(), event.frame.payload.end()), now);
  }
}

void PooledExpertLayer::TakeCombine(const PoolEvent& event, TimePoint now) {
  CombineView view;
  if (!event.taken_late) {
    absl::StatusOr<CombineView> decoded =
        CombineView::Decode(event.frame.header, event.frame.payload);
    if (!decoded.ok()) {
      session_->links().Break(event.worker, decoded.status(), now);
      return;
    }
    view = *decoded;
  }
  const Arrival arrival = machine_->Combine(event.worker, event.ask, now, event.taken_late);
  if (arrival.plan == nullptr) {
    session_->links().CountLate(event.worker);
    return;
  }
  ExchangeTotals::Worker& totals = TotalsOf(event.worker);
  const double seconds = std::chrono::duration<double>(arrival.took).count();
  ++totals.answers;
  totals.answer_seconds += seconds;
  ++totals.answer_buckets[size_t(
      std::lower_bound(kAnswerBuckets.begin(), kAnswerBuckets.end(), seconds) -
      kAnswerBuckets.begin())];

  const WorkerPlan& plan = *arrival.plan;
  const size_t hidden = size_t(batch_.x.k);
  size_t pair = 0;
  for (size_t i = 0; i < plan.experts.size(); ++i) {
    const ExpertRun& run = plan.experts[i];
    if (!arrival.fresh[i]) {
      CompareAnswer(view, plan, run, pair, now);
      pair += size_t(run.num_rows);
      continue;
    }
    answered_by_[size_t(run.expert)] = event.worker;
    for (const size_t end = pair + size_t(run.num_rows); pair < end; ++pair) {
      const auto slot = size_t(plan.slots[pair]);
      if (view.is_float32()) {
        vectors_[slot] = view.Row(pair);
      } else {
        float* out = reinterpret_cast<float*>(expanded_.data()) + slot * hidden;
        view.Expand(pair, out);
        vectors_[slot] = out;
      }
    }
  }
}

void PooledExpertLayer::CompareAnswer(const CombineView& view, const WorkerPlan& plan,
                                      const ExpertRun& run, size_t first_pair, TimePoint now) {
  const size_t hidden = size_t(batch_.x.k);
  const auto count = size_t(run.num_rows);
  rows_.resize(count * hidden);
  for (size_t i = 0; i < count; ++i) view.Expand(first_pair + i, rows_.data() + i * hidden);
  const ExpertId expert(run.expert);
  for (Dispute& dispute : disputes_) {
    if (dispute.expert != expert) continue;
    dispute.answers.push_back({plan.worker, rows_});
    return;
  }
  totals_.compared_pairs += run.num_rows;
  const std::span<const int32_t> slots(plan.slots.data() + first_pair, count);
  int differing = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!SameBits({rows_.data() + i * hidden, hidden}, {vectors_[size_t(slots[i])], hidden}))
      ++differing;
  }
  if (differing == 0) return;
  totals_.differing_pairs += differing;
  Dispute dispute{expert, {slots.begin(), slots.end()}, {}};
  ExpertAnswer& used = dispute.answers.emplace_back();
  used.worker = answered_by_[size_t(run.expert)];
  for (const int32_t slot : slots)
    used.rows.insert(used.rows.end(), vectors_[size_t(slot)], vectors_[size_t(slot)] + hidden);
  dispute.answers.push_back({plan.worker, rows_});
  disputes_.push_back(std::move(dispute));
  machine_->AskAnother(expert, now);
}

void PooledExpertLayer::SettleDisputes() {
  for (const Dispute& dispute : disputes_) {
    Judgement judgement = JudgeByMajority(dispute);
    if (!judgement.decided && options_.referee) {
      std::vector<float> right(dispute.answers.front().rows.size());
      std::vector<int32_t> rows;
      for (const int32_t slot : dispute.slots) rows.push_back(slot / batch_.top_k);
      if (options_.referee(batch_.layer, dispute.expert, chunk_, rows, right.data()).ok()) {
        const size_t hidden = size_t(batch_.x.k);
        if (options_.combine_element == FrameElement::kInt16Groups) {
          for (size_t i = 0; i < rows.size(); ++i)
            RoundToInt16Groups(right.data() + i * hidden, hidden);
        }
        judgement = JudgeByReference(dispute, std::move(right));
      }
    }
    if (!judgement.decided) {
      if (observer_ != nullptr)
        observer_->OnUndecided(dispute.answers[0].worker, dispute.answers[1].worker, batch_.layer,
                               dispute.expert);
      continue;
    }
    for (const WorkerId worker : judgement.wrong) {
      if (observer_ != nullptr) observer_->OnWrongAnswer(worker, batch_.layer, dispute.expert);
    }
    Use(dispute, std::move(judgement.right));
  }
}

void PooledExpertLayer::Use(const Dispute& dispute, std::vector<float> right) {
  settled_.push_back(std::move(right));
  const size_t hidden = size_t(batch_.x.k);
  for (size_t i = 0; i < dispute.slots.size(); ++i)
    vectors_[size_t(dispute.slots[i])] = settled_.back().data() + i * hidden;
}

ExchangeTotals::Worker& PooledExpertLayer::TotalsOf(WorkerId worker) {
  auto at = std::lower_bound(totals_.workers.begin(), totals_.workers.end(), worker,
                             [](const auto& entry, WorkerId id) { return entry.worker < id; });
  if (at == totals_.workers.end() || at->worker != worker) {
    ExchangeTotals::Worker entry;
    entry.worker = worker;
    at = totals_.workers.insert(at, entry);
  }
  return *at;
}

ExchangeTotals PooledExpertLayer::TakeTotals() {
  totals_.layers = machine_->TakeStatistics();
  return std::exchange(totals_, {});
}

std::vector<uint32_t> PooledExpertLayer::TakePairCounts() {
  std::vector<uint32_t> counts(pair_counts_.size());
  counts.swap(pair_counts_);
  return counts;
}

}  // namespace sheaf
