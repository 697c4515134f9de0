// A router's steps: layers of asks and answers, given up and run again.

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/simulation/router/router_life.h"

namespace sheaf::simulation {
namespace {

constexpr Duration kLookAtAll = std::chrono::milliseconds(5);
constexpr Duration kRetryAfter = std::chrono::milliseconds(500);

}  // namespace

void SimulatedRouter::BeginStep() {
  Life& life = *life_;
  ++life.step;
  life.layer = world_.model.first_moe_layer;
  life.num_tokens = random_.Between(1, options_.max_tokens);
  life.tokens.clear();
  for (int t = 0; t < life.num_tokens; ++t) life.tokens.push_back(random_.Next());
  BeginLayer();
}

void SimulatedRouter::BeginLayer() {
  Life& life = *life_;
  const TimePoint now = world_.now();
  life.phase = Life::Phase::kLayer;
  PoolEvent event;
  while (life.links.Next(now, true, event)) Take(event, now);
  life.links.Release();
  Turn(now);
  while (life.links.Next(now, false, event)) Take(event, now);
  life.links.Release();
  CheckOwed();

  // A step that is run again has the same routes.
  Random routes(life.tokens.front() ^ static_cast<uint64_t>(life.layer));
  const int num_experts = world_.model.num_experts;
  life.expert_ids.clear();
  for (int t = 0; t < life.num_tokens; ++t) {
    std::vector<int32_t> row;
    while (static_cast<int>(row.size()) < options_.top_k) {
      // Some experts are hotter than others.
      const int32_t expert = std::min(routes.Below(num_experts), routes.Below(num_experts));
      if (std::find(row.begin(), row.end(), expert) == row.end()) row.push_back(expert);
    }
    std::sort(row.begin(), row.end());
    life.expert_ids.insert(life.expert_ids.end(), row.begin(), row.end());
  }
  life.pairs.assign(life.expert_ids.size(), Pair{});
  life.answered_by.clear();
  life.layer_begun = now;
  life.holders_all_along.clear();
  std::vector<int32_t> needed = life.expert_ids;
  std::sort(needed.begin(), needed.end());
  needed.erase(std::unique(needed.begin(), needed.end()), needed.end());
  for (const int32_t expert : needed) {
    const LayerExpert pair{LayerId(life.layer), ExpertId(expert)};
    const auto holders = life.links.table().HoldersOf(pair.layer, pair.expert);
    life.holders_all_along.push_back({pair, {holders.begin(), holders.end()}});
  }
  for (const int32_t expert : life.expert_ids) {
    ++life.pair_counts[static_cast<size_t>(life.layer - world_.model.first_moe_layer) *
                           static_cast<size_t>(num_experts) +
                       static_cast<size_t>(expert)];
  }
  const absl::Status begun = life.machine.Begin(
      {LayerId(life.layer), life.num_tokens, options_.top_k, life.expert_ids.data()}, now);
  if (!begun.ok()) {
    world_.invariants.Violate("layer", std::string(begun.message()));
    return;
  }
  life.look_at_all = now + kLookAtAll;
  SendAsks(now);
}

void SimulatedRouter::Run() {
  Life& life = *life_;
  if (life.running) return;
  life.running = true;
  const TimePoint now = world_.now();
  for (;;) {
    if (life.phase != Life::Phase::kLayer) {
      life.links.Idle(now);
      PoolLinks::ConnectJob job;
      while (life.links.NextConnect(now, job)) StartConnect(job);
      const bool held = std::all_of(
          life.orphans.begin(), life.orphans.end(), [&](const LayerExpert& pair) {
            return !life.links.table().HoldersOf(pair.layer, pair.expert).empty();
          });
      if (life.phase == Life::Phase::kGivenUp && (held || now >= life.begin_at)) {
        // The sequences keep their tokens; the whole step is computed again.
        life.layer = world_.model.first_moe_layer;
        life.orphans.clear();
        BeginLayer();
        continue;
      }
      if (life.phase == Life::Phase::kPause && now >= life.begin_at && complete()) {
        BeginStep();
        continue;
      }
      break;
    }
    SendAsks(now);
    if (life.machine.done()) {
      FinishLayer(now);
      continue;
    }
    if (!life.machine.given_up().ok()) {
      GiveUp(now);
      break;
    }
    const bool all = now >= life.look_at_all;
    bool news = false;
    PoolEvent event;
    while (!life.machine.done() && life.links.Next(now, all, event)) {
      Take(event, now);
      SendAsks(now);
      news = true;
    }
    if (news) continue;
    if (all) {
      Turn(now);
      life.look_at_all = now + kLookAtAll;
    }
    life.machine.Tick(now);
    SendAsks(now);
    if (!life.machine.given_up().ok() || life.machine.done()) continue;
    const TimePoint wake = std::max(std::min(life.machine.WakeAt(), life.look_at_all),
                                    now + std::chrono::microseconds(1));
    const uint64_t timer = ++life.timer;
    process_.At(wake, [this, timer] {
      if (timer == life_->timer) Run();
    });
    break;
  }
  life.running = false;
}

void SimulatedRouter::FinishLayer(TimePoint now) {
  Life& life = *life_;
  CheckLayer(now);
  life.machine.End(now);
  if (world_.mutant == Mutant::kForgetOwed) {
    for (const auto& [worker, link] : life.link_of)
      life.machine.LinkLost(worker, "forgotten", now);
  }
  life.links.Release();
  ++layers_done_;
  longest_layer_ = std::max(longest_layer_, now - life.layer_begun);
  const LayerStatistics statistics = life.machine.TakeStatistics();
  for (size_t i = 0; i < kNumAskCauses; ++i) statistics_.pairs[i] += statistics.pairs[i];
  statistics_.hedges_won += statistics.hedges_won;
  statistics_.hedges_lost += statistics.hedges_lost;
  statistics_.late_answers += statistics.late_answers;
  statistics_.given_up += statistics.given_up;
  if (++life.layer < world_.model.num_layers) return BeginLayer();
  ++steps_done_;
  last_step_ = now;
  world_.trace.Add(now, "step", {static_cast<uint64_t>(process_.host()), life.step});
  life.phase = Life::Phase::kPause;
  life.begin_at = now + random_.Between(options_.pause / 2, options_.pause * 3 / 2);
  process_.At(life.begin_at, [this] { Wake(); });
}

void SimulatedRouter::GiveUp(TimePoint now) {
  Life& life = *life_;
  ++steps_given_up_;
  world_.trace.Add(now, "gives up",
                   {static_cast<uint64_t>(process_.host()), static_cast<uint64_t>(life.layer)});
  world_.trace.Say(now, std::string(life.machine.given_up().message()));
  life.orphans.clear();
  for (const ExpertId expert : life.machine.Orphans())
    life.orphans.push_back({LayerId(life.layer), expert});
  CheckLate(now);
  life.machine.End(now);
  life.links.Release();
  life.phase = Life::Phase::kGivenUp;
  life.begin_at = now + kRetryAfter;
  Report();
}

void SimulatedRouter::SendAsks(TimePoint now) {
  Ask ask;
  while (life_->machine.NextAsk(ask)) SendAsk(ask, now);
}

void SimulatedRouter::SendAsk(const Ask& ask, TimePoint now) {
  Life& life = *life_;
  const WorkerPlan& plan = *ask.plan;
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.element = FrameElement::kInt16Groups;
  header.answer = FrameElement::kFloat32;
  header.step = StepId(life.step);
  header.layer = LayerId(life.layer);
  header.hidden = kHidden;
  header.tokens = static_cast<uint32_t>(plan.token_rows.size());
  header.pairs = static_cast<uint32_t>(plan.num_pairs());
  header.experts = static_cast<uint32_t>(plan.experts.size());
  header.payload_bytes = plan.experts.size() * 2 * sizeof(int32_t) +
                         static_cast<size_t>(plan.num_pairs()) * sizeof(uint64_t);
  const absl::StatusOr<std::span<uint8_t>> memory =
      life.links.Reserve(ask.worker, header.payload_bytes, now);
  absl::Status sent = memory.status();
  if (sent.ok()) {
    uint8_t* out = memory->data();
    for (const ExpertRun& run : plan.experts) {
      const int32_t numbers[2] = {run.expert, run.num_rows};
      std::memcpy(out, numbers, sizeof(numbers));
      out += sizeof(numbers);
    }
    for (const int32_t row : plan.rows) {
      const uint64_t token =
          life.tokens[static_cast<size_t>(plan.token_rows[static_cast<size_t>(row)])];
      std::memcpy(out, &token, sizeof(token));
      out += sizeof(token);
    }
    const double work = WorkOf(static_cast<int>(plan.experts.size()), plan.num_pairs());
    sent = life.links.Send(ask.worker, ask.id, header,
                           life.links.times().Expected(ask.worker, work), now);
    if (sent.ok()) {
      world_.trace.Add(now, "asks",
                       {static_cast<uint64_t>(process_.host()),
                        static_cast<uint64_t>(ask.worker.value()), ask.id,
                        static_cast<uint64_t>(ask.cause), static_cast<uint64_t>(life.layer)});
      return life.machine.Sent(ask.id, now);
    }
  }
  if (absl::IsResourceExhausted(sent)) life.machine.NotSent(ask.id, now);
}

void SimulatedRouter::Take(const PoolEvent& event, TimePoint now) {
  Life& life = *life_;
  switch (event.kind) {
    case PoolEvent::Kind::kLinkLost:
      if (world_.mutant == Mutant::kKeepLostLink) return;
      life.machine.LinkLost(event.worker, event.why, now);
      return;
    case PoolEvent::Kind::kHoldings:
      for (auto& [pair, holders] : life.holders_all_along) {
        if (life.links.table().Holds(event.worker, pair.layer, pair.expert)) continue;
        std::erase(holders, event.worker);
      }
      life.machine.TableChanged(event.worker, now);
      return;
    case PoolEvent::Kind::kAnswer:
      break;
  }
  switch (event.frame.header.kind) {
    case FrameKind::kCombine:
      return TakeCombine(event, now);
    case FrameKind::kNotHeld: {
      std::vector<int32_t> experts(event.frame.payload.size() / sizeof(int32_t));
      if (!experts.empty())
        std::memcpy(experts.data(), event.frame.payload.data(), event.frame.payload.size());
      return life.machine.NotHeld(event.worker, event.ask, experts, now);
    }
    default:
      if (world_.mutant == Mutant::kErrorCounts) return TakeCombine(event, now);
      return life.machine.Error(
          event.worker, event.ask,
          std::string(event.frame.payload.begin(), event.frame.payload.end()), now);
  }
}

void SimulatedRouter::TakeCombine(const PoolEvent& event, TimePoint now) {
  Life& life = *life_;
  const auto key = std::pair{event.dispatch.link.value(), event.dispatch.sequence};
  const auto computed = world_.ledger.find(key);
  const Arrival arrival =
      life.machine.Combine(event.worker, event.ask, now, event.taken_late);
  if (arrival.plan == nullptr) {
    if (computed != world_.ledger.end()) world_.ledger.erase(computed);
    return;
  }
  const auto violate = [&](const char* text) {
    world_.invariants.Violate(
        "answers", absl::StrFormat("router on host %d, step %d layer %d, worker %d: %s",
                                   process_.host(), life.step, life.layer, event.worker.value(),
                                   text));
  };
  const WorkerPlan& plan = *arrival.plan;
  if (event.taken_late) violate("an answer without bytes counts");
  if (computed == world_.ledger.end()) violate("nobody computed this answer");
  if (event.frame.payload.size() != static_cast<size_t>(plan.num_pairs()) * sizeof(uint64_t) &&
      world_.mutant != Mutant::kErrorCounts) {
    return violate("the answer does not fit its ask");
  }
  size_t pair = 0;
  for (size_t i = 0; i < plan.experts.size(); ++i) {
    const ExpertRun& run = plan.experts[i];
    bool corrupted = false;
    if (computed != world_.ledger.end()) {
      const Computed& truth = computed->second;
      if (std::find(truth.experts.begin(), truth.experts.end(), run.expert) ==
          truth.experts.end()) {
        violate("it did not compute that expert");
      }
      corrupted = std::find(truth.corrupted.begin(), truth.corrupted.end(), run.expert) !=
                  truth.corrupted.end();
    }
    for (int32_t row = 0; row < run.num_rows; ++row, ++pair) {
      const auto slot = static_cast<size_t>(plan.slots[pair]);
      uint64_t value = 0;
      if (event.frame.payload.size() >= (pair + 1) * sizeof(value))
        std::memcpy(&value, event.frame.payload.data() + pair * sizeof(value), sizeof(value));
      if (!arrival.fresh[i] && world_.mutant != Mutant::kCountTwice) {
        Compare(event.worker, ExpertId(run.expert), slot, value);
        continue;
      }
      Pair& answer = life.pairs[slot];
      ++answer.answers;
      answer.value = value;
      answer.corrupted = corrupted;
      life.answered_by[run.expert] = event.worker;
    }
  }
  if (computed != world_.ledger.end()) world_.ledger.erase(computed);
}

void SimulatedRouter::Compare(WorkerId worker, ExpertId expert, size_t slot, uint64_t value) {
  Life& life = *life_;
  Pair& answer = life.pairs[slot];
  if (answer.value == value || world_.mutant == Mutant::kIgnoreDifferences) return;
  // The referee: the expert itself, from disk.
  const uint64_t right =
      World::Answer(world_.Weights(LayerId(life.layer), expert),
                    life.tokens[slot / static_cast<size_t>(options_.top_k)]);
  const WorkerId wrong = value == right ? life.answered_by[expert.value()] : worker;
  answer.value = right;
  world_.trace.Add(world_.now(), "differs",
                   {static_cast<uint64_t>(process_.host()), static_cast<uint64_t>(life.layer),
                    static_cast<uint64_t>(expert.value()), static_cast<uint64_t>(wrong.value())});
  for (const v1::WrongAnswer& told : life.wrong) {
    if (told.worker_id() == wrong.value() && told.layer() == life.layer &&
        told.expert() == expert.value()) {
      return;
    }
  }
  v1::WrongAnswer report;
  report.set_worker_id(wrong.value());
  report.set_instance(life.instance_of[wrong].value());
  report.set_layer(life.layer);
  report.set_expert(expert.value());
  life.wrong.push_back(report);
  process_.After(Duration(0), [this] { Report(); });
}

}  // namespace sheaf::simulation
