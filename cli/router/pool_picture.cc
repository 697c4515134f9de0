#include "cli/router/pool_picture.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "cli/commands/pool_table.h"

namespace sheaf {
namespace {

LinkPicture LinkOf(const WorkerLinkStatus& status) {
  LinkPicture link;
  link.live = status.live;
  link.path = status.path;
  link.reason = status.live ? "" : OneLine(status.reason);
  link.failures = status.failures;
  link.late_answers = status.late_answers;
  link.owed_answers = status.owed_answers;
  link.seconds_per_unit = status.seconds_per_unit;
  return link;
}

MemberPicture MemberOf(const v1::WorkerStatus& status) {
  MemberPicture member;
  member.state = NameOf(status.state());
  member.host = OneLine(status.host());
  member.pid = status.pid();
  member.held_experts = status.held_experts();
  member.wanted_experts = status.wanted_experts();
  member.resident_bytes = status.resident_bytes();
  member.memory_bytes = status.memory_bytes();
  member.left_bytes = status.hold_left_bytes();
  member.load_share = status.load_share();
  member.live_links = status.live_links();
  member.silent_ms = status.silent_ms();
  member.note = OneLine(status.reason());
  return member;
}

}  // namespace

PoolPicture PictureOf(const LinkPoolSnapshot& links, PoolPicture::Place place,
                      const v1::PoolStatus* status) {
  PoolPicture picture;
  picture.place = place;
  picture.complete = links.complete;
  picture.coverage = links.coverage;
  picture.live_links = links.live_links;
  picture.holdings_version = links.holdings_version;
  std::map<int, WorkerPicture> workers;
  for (const WorkerLinkStatus& link : links.workers) {
    WorkerPicture& worker = workers[link.worker.value()];
    worker.name = OneLine(link.name);
    worker.link = LinkOf(link);
  }
  if (status != nullptr) {
    picture.coordinator_speaks = true;
    picture.text = OneLine(status->text());
    picture.replicas = status->replicas();
    picture.routers = status->routers();
    picture.moving_bytes = status->moving_bytes();
    for (const v1::WorkerStatus& member : status->workers()) {
      WorkerPicture& worker = workers[member.worker_id()];
      worker.name = absl::StrFormat("pid %d on %s", member.pid(), OneLine(member.host()));
      worker.member = MemberOf(member);
    }
    for (const v1::LostWorkerStatus& lost : status->lost()) {
      picture.lost.push_back({lost.worker_id(), lost.instance(), OneLine(lost.host()), lost.pid(),
                              OneLine(lost.reason()), lost.lost_ms_ago()});
    }
  }
  for (auto& [id, worker] : workers) {
    worker.id = id;
    picture.workers.push_back(std::move(worker));
  }
  return picture;
}

ExpertMap MapOf(const ModelIdentity& model, const LinkPoolSnapshot& links,
                std::vector<double> load) {
  ExpertMap map;
  map.version = links.holdings_version;
  map.first_layer = model.first_moe_layer;
  map.layers = std::max(0, model.num_layers - model.first_moe_layer);
  map.experts = model.num_experts;
  const size_t cells = static_cast<size_t>(map.layers) * static_cast<size_t>(map.experts);
  for (const auto& [worker, holdings] : *links.holdings) {
    ExpertMap::Holder& holder = map.holders.emplace_back();
    holder.worker = worker.value();
    holder.held.reserve(cells);
    for (int layer = map.first_layer; layer < model.num_layers; ++layer) {
      for (int expert = 0; expert < map.experts; ++expert) {
        holder.held.push_back(holdings.Has(LayerId(layer), ExpertId(expert)));
      }
    }
  }
  if (load.size() == cells) map.load = std::move(load);
  return map;
}

}  // namespace sheaf
