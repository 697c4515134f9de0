#include "coordinator/coordinator_metrics.h"

#include <string>

namespace sheaf {
namespace {

prometheus::Family<prometheus::Counter>& CounterFamily(prometheus::Registry& registry,
                                                       const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
prometheus::Family<prometheus::Gauge>& GaugeFamily(prometheus::Registry& registry, const char* name,
                                                   const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

void Raise(prometheus::Counter& counter, double to) {
  if (to > counter.Value()) counter.Increment(to - counter.Value());
}

}  // namespace

CoordinatorMetrics::CoordinatorMetrics(prometheus::Registry& registry)
    : received_messages_(CounterFamily(registry, "sheaf_pool_control_messages_total",
                                       "Messages of the control plane")
                             .Add({{"direction", "received"}})),
      sent_messages_(CounterFamily(registry, "sheaf_pool_control_messages_total",
                                   "Messages of the control plane")
                         .Add({{"direction", "sent"}})),
      received_bytes_(CounterFamily(registry, "sheaf_pool_control_bytes_total",
                                    "Bytes of the control plane's messages")
                          .Add({{"direction", "received"}})),
      sent_bytes_(CounterFamily(registry, "sheaf_pool_control_bytes_total",
                                "Bytes of the control plane's messages")
                      .Add({{"direction", "sent"}})),
      plan_seconds_(prometheus::BuildHistogram()
                        .Name("sheaf_pool_plan_seconds")
                        .Help("Time of a plan over the whole pool")
                        .Register(registry)
                        .Add({}, prometheus::Histogram::BucketBoundaries{1e-4, 3e-4, 1e-3, 3e-3,
                                                                         1e-2, 3e-2, 1e-1, 3e-1})),
      wanted_holders_(GaugeFamily(registry, "sheaf_pool_wanted_holders",
                                  "Holders that every expert shall have")
                          .Add({})),
      layer_holders_(GaugeFamily(registry, "sheaf_pool_layer_fewest_holders",
                                 "Holders of the layer's expert that has the fewest")),
      routers_(GaugeFamily(registry, "sheaf_pool_routers", "Routers with a session").Add({})),
      moving_bytes_(GaugeFamily(registry, "sheaf_pool_moving_bytes",
                                "Bytes that moves under way have still to load")
                        .Add({})),
      moves_(CounterFamily(registry, "sheaf_pool_moves_total", "Experts that plans had loaded")
                 .Add({})),
      moved_bytes_(CounterFamily(registry, "sheaf_pool_moved_bytes_total",
                                 "Bytes that workers read from the checkpoint after they joined")
                       .Add({})),
      quarantines_(CounterFamily(registry, "sheaf_pool_quarantines_total",
                                 "Workers taken out for links that break or wrong answers")
                       .Add({})),
      wrong_answers_(CounterFamily(registry, "sheaf_pool_wrong_answers_total",
                                   "Answers that differed from another holder's")
                         .Add({})),
      false_evictions_(CounterFamily(registry, "sheaf_pool_false_evictions_total",
                                     "Workers held for lost that were alive")
                           .Add({})),
      refused_hellos_(CounterFamily(registry, "sheaf_pool_refused_hellos_total",
                                    "Workers and routers that were not let in")
                          .Add({})),
      refused_experts_(CounterFamily(registry, "sheaf_pool_refused_experts_total",
                                     "Experts that workers could not load")
                           .Add({})) {
  auto& workers = GaugeFamily(registry, "sheaf_pool_workers", "Expert workers by state");
  workers_[v1::WorkerStatus::LOADING] = &workers.Add({{"state", "loading"}});
  workers_[v1::WorkerStatus::READY] = &workers.Add({{"state", "ready"}});
  workers_[v1::WorkerStatus::DRAINING] = &workers.Add({{"state", "draining"}});
  workers_[v1::WorkerStatus::SPARE] = &workers.Add({{"state", "spare"}});
  workers_[v1::WorkerStatus::QUARANTINED] = &workers.Add({{"state", "quarantined"}});
  auto& lost =
      CounterFamily(registry, "sheaf_pool_workers_lost_total", "Expert workers lost, by cause");
  for (const LossCause cause :
       {LossCause::kLease, LossCause::kSessionEnded, LossCause::kProtocol, LossCause::kLeft}) {
    lost_[cause] = &lost.Add({{"cause", NameOf(cause)}});
  }
  auto& coverage =
      GaugeFamily(registry, "sheaf_pool_experts", "Experts by number of workers that hold them");
  const char* const holders[4] = {"0", "1", "2", "3+"};
  for (int i = 0; i < 4; ++i) coverage_[i] = &coverage.Add({{"holders", holders[i]}});
}

void CoordinatorMetrics::Received(size_t bytes) {
  received_messages_.Increment();
  received_bytes_.Increment(static_cast<double>(bytes));
}

void CoordinatorMetrics::Sent(size_t bytes) {
  sent_messages_.Increment();
  sent_bytes_.Increment(static_cast<double>(bytes));
}

void CoordinatorMetrics::Planned(Duration took) {
  plan_seconds_.Observe(std::chrono::duration<double>(took).count());
}

void CoordinatorMetrics::PoolIs(const PoolFigures& figures, const PoolCounters& counters) {
  for (const auto& [state, gauge] : workers_) {
    const auto found = figures.workers.find(state);
    gauge->Set(found == figures.workers.end() ? 0 : found->second);
  }
  for (size_t i = 0; i < 4; ++i) {
    coverage_[i]->Set(static_cast<double>(figures.coverage[i]));
  }
  wanted_holders_.Set(figures.wanted_holders);
  for (const auto& [layer, holders] : figures.fewest_holders) {
    prometheus::Gauge*& gauge = fewest_holders_[layer];
    if (gauge == nullptr) gauge = &layer_holders_.Add({{"layer", std::to_string(layer)}});
    gauge->Set(holders);
  }
  routers_.Set(figures.routers);
  moving_bytes_.Set(static_cast<double>(figures.moving_bytes));
  for (const auto& [cause, count] : counters.lost) {
    Raise(*lost_.at(cause), static_cast<double>(count));
  }
  Raise(moves_, static_cast<double>(counters.moves));
  Raise(moved_bytes_, static_cast<double>(counters.moved_bytes));
  Raise(quarantines_, static_cast<double>(counters.quarantines));
  Raise(wrong_answers_, static_cast<double>(counters.wrong_answers));
  Raise(false_evictions_, static_cast<double>(counters.false_evictions));
  Raise(refused_hellos_, static_cast<double>(counters.refused_hellos));
  Raise(refused_experts_, static_cast<double>(counters.refused_experts));
}

}  // namespace sheaf
