#include "exchange/pool/layer_exchange.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/status.h"
#include "exchange/wire/dispatch_payload.h"

namespace sheaf {
namespace {

int64_t FrameBytes(const FrameHeader& header) {
  return static_cast<int64_t>(kFrameHeaderBytes + header.payload_bytes);
}

}  // namespace

LayerExchange::LayerExchange(PoolLinks& links, ThreadPool& pool,
                             const LayerExchangeOptions& options, PooledLayerObserver* observer)
    : links_(links),
      pool_(pool),
      options_(options),
      observer_(observer),
      machine_(links.table(), links.times(), options.machine) {
  answered_by_.resize(size_t(links.table().num_experts()));
}

absl::Status LayerExchange::Begin(const ExchangeChunk& chunk, TimePoint now) {
  End(now);
  // What came since the last layer: announcements, late answers, lost links.
  PoolEvent event;
  while (links_.Next(now, true, event)) Take(event, now);
  links_.Release();
  chunk_ = chunk;
  vectors_.resize(size_t(chunk.x.num_rows) * size_t(chunk.top_k));
  if (options_.combine_element != FrameElement::kFloat32)
    expanded_.Resize(vectors_.size() * size_t(chunk.x.k) * sizeof(float));
  SHEAF_RETURN_IF_ERROR(
      machine_.Begin({chunk.layer, chunk.x.num_rows, chunk.top_k, chunk.expert_ids}, now));
  SendAsks(now);
  return absl::OkStatus();
}

bool LayerExchange::Poll(TimePoint now, bool all) {
  bool news = false;
  PoolEvent event;
  while (!machine_.done() && machine_.given_up().ok() && links_.Next(now, all, event)) {
    Take(event, now);
    SendAsks(now);
    news = true;
  }
  return news;
}

bool LayerExchange::Tick(TimePoint now) {
  machine_.Tick(now);
  return SendAsks(now) > 0 || machine_.done() || !machine_.given_up().ok();
}

bool LayerExchange::done() {
  if (!machine_.done()) return false;
  SettleDisputes();
  return true;
}

void LayerExchange::End(TimePoint now) {
  machine_.End(now);
  disputes_.clear();
  settled_.clear();
  links_.Release();
}

int LayerExchange::SendAsks(TimePoint now) {
  int handled = 0;
  Ask ask;
  while (machine_.NextAsk(ask)) {
    SendAsk(ask, now);
    ++handled;
    if (!options_.share_cores) links_.Ring();
  }
  links_.Ring();
  return handled;
}

void LayerExchange::SendAsk(const Ask& ask, TimePoint now) {
  const WorkerPlan& plan = *ask.plan;
  const absl::StatusOr<std::span<uint8_t>> memory =
      links_.Reserve(ask.worker, DispatchBytes(plan, chunk_.x), now);
  absl::Status sent = memory.status();
  FrameHeader header;
  if (sent.ok()) {
    EncodeDispatch(pool_, plan, chunk_.x, header, memory->data());
    header.step = chunk_.step;
    header.layer = chunk_.layer;
    header.answer = options_.combine_element;
    const double work = WorkOf(static_cast<int>(plan.experts.size()), plan.num_pairs());
    sent = links_.Send(ask.worker, ask.id, header, links_.times().Expected(ask.worker, work), now);
    if (sent.ok()) {
      machine_.Sent(ask.id, now);
      ExchangeTotals::Worker& totals = TotalsOf(ask.worker);
      totals.sent_bytes += FrameBytes(header);
      totals.pairs += plan.num_pairs();
      totals.units += work;
      return;
    }
  }
  // A broken link tells the machine by its event.
  if (absl::IsResourceExhausted(sent)) machine_.NotSent(ask.id, now);
}

void LayerExchange::Take(const PoolEvent& event, TimePoint now) {
  switch (event.kind) {
    case PoolEvent::Kind::kLinkLost:
      machine_.LinkLost(event.worker, event.why, now);
      return;
    case PoolEvent::Kind::kHoldings:
      machine_.TableChanged(event.worker, now);
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
      machine_.NotHeld(event.worker, event.ask, experts, now);
      return;
    }
    default:
      machine_.Error(event.worker, event.ask,
                      std::string(event.frame.payload.begin(), event.frame.payload.end()), now);
  }
}

void LayerExchange::TakeCombine(const PoolEvent& event, TimePoint now) {
  CombineView view;
  if (!event.taken_late) {
    absl::StatusOr<CombineView> decoded =
        CombineView::Decode(event.frame.header, event.frame.payload);
    if (!decoded.ok()) {
      links_.Break(event.worker, decoded.status(), now);
      return;
    }
    view = *decoded;
  }
  const Arrival arrival = machine_.Combine(event.worker, event.ask, now, event.taken_late);
  if (arrival.plan == nullptr) {
    links_.CountLate(event.worker);
    return;
  }
  ExchangeTotals::Worker& totals = TotalsOf(event.worker);
  const double seconds = std::chrono::duration<double>(arrival.took).count();
  ++totals.answers;
  totals.answer_seconds += seconds;
  totals.longest_answer_seconds = std::max(totals.longest_answer_seconds, seconds);
  ++totals.answer_buckets[size_t(
      std::lower_bound(kAnswerBuckets.begin(), kAnswerBuckets.end(), seconds) -
      kAnswerBuckets.begin())];

  const WorkerPlan& plan = *arrival.plan;
  const size_t hidden = size_t(chunk_.x.k);
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

void LayerExchange::CompareAnswer(const CombineView& view, const WorkerPlan& plan,
                                      const ExpertRun& run, size_t first_pair, TimePoint now) {
  const size_t hidden = size_t(chunk_.x.k);
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
  machine_.AskAnother(expert, now);
}

void LayerExchange::SettleDisputes() {
  const size_t hidden = size_t(chunk_.x.k);
  for (const Dispute& dispute : disputes_) {
    Judgement judgement = Judge(dispute);
    if (!judgement.decided) {
      if (observer_ != nullptr)
        observer_->OnUndecided(dispute.answers[0].worker, dispute.answers[1].worker, chunk_.layer,
                               dispute.expert);
      continue;
    }
    for (const WorkerId worker : judgement.wrong) {
      if (observer_ != nullptr) observer_->OnWrongAnswer(worker, chunk_.layer, dispute.expert);
    }
    settled_.push_back(std::move(judgement.right));
    for (size_t i = 0; i < dispute.slots.size(); ++i)
      vectors_[size_t(dispute.slots[i])] = settled_.back().data() + i * hidden;
  }
  disputes_.clear();
}

Judgement LayerExchange::Judge(const Dispute& dispute) {
  Judgement judgement = JudgeByMajority(dispute);
  if (judgement.decided || !options_.referee) return judgement;
  const size_t hidden = size_t(chunk_.x.k);
  std::vector<float> right(dispute.slots.size() * hidden);
  std::vector<int32_t> rows;
  for (const int32_t slot : dispute.slots) rows.push_back(slot / chunk_.top_k);
  if (!options_.referee(chunk_.layer, dispute.expert, chunk_.x, rows, right.data()).ok())
    return judgement;
  if (options_.combine_element == FrameElement::kInt16Groups) {
    for (size_t i = 0; i < rows.size(); ++i) RoundToInt16Groups(right.data() + i * hidden, hidden);
  }
  return JudgeByReference(dispute, std::move(right));
}

ExchangeTotals::Worker& LayerExchange::TotalsOf(WorkerId worker) {
  auto at = std::lower_bound(totals_.workers.begin(), totals_.workers.end(), worker,
                             [](const auto& entry, WorkerId id) { return entry.worker < id; });
  if (at == totals_.workers.end() || at->worker != worker) {
    ExchangeTotals::Worker entry;
    entry.worker = worker;
    at = totals_.workers.insert(at, entry);
  }
  return *at;
}

}  // namespace sheaf
