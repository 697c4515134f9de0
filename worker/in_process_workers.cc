#include "worker/in_process_workers.h"

#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/holdings/expert_store.h"
#include "worker/serve/link_server.h"

namespace sheaf {

struct InProcessWorkers::Member {
  Member(const ModelIdentity& model, const HeldExperts& source)
      : store(model.num_layers, model.num_experts,
              [&source](ThreadPool& pool) { return source.NewCompute(pool); }) {}
  ExpertStore store;
  std::unique_ptr<Bell> bell;
  std::unique_ptr<LinkServer> server;
  std::unique_ptr<LinkListener> listener;  // first to go
};

InProcessWorkers::InProcessWorkers() = default;
InProcessWorkers::~InProcessWorkers() = default;

absl::StatusOr<std::unique_ptr<InProcessWorkers>> InProcessWorkers::Start(
    LinkMaker& links, const ModelIdentity& model, InstanceId router,
    const std::vector<InProcessHolding>& holdings, int threads_each) {
  std::unique_ptr<InProcessWorkers> workers(new InProcessWorkers);
  std::random_device random;
  for (size_t i = 0; i < holdings.size(); ++i) {
    auto member = std::make_unique<Member>(model, *holdings[i].source);
    Holdings held(model.num_layers, model.num_experts);
    held.number = 1;
    for (const LayerExpert& pair : holdings[i].experts) {
      HeldExpertPtr expert = holdings[i].source->Find(pair.layer, pair.expert);
      if (expert == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrFormat("worker %d: layer %d expert %d is not in its source", i,
                            pair.layer.value(), pair.expert.value()));
      }
      member->store.Add(pair, std::move(expert));
      held.Add(pair.layer, pair.expert);
    }
    SHEAF_ASSIGN_OR_RETURN(member->bell, Bell::Create());
    member->server = std::make_unique<LinkServer>(model, threads_each, member->store,
                                                  std::move(held), *member->bell, nullptr, nullptr);
    WorkerEndpoint endpoint;
    endpoint.worker = WorkerId(static_cast<int32_t>(i));
    endpoint.instance = InstanceId((uint64_t{random()} << 32 | random()) | 1);
    LinkSecret secret{};
    for (uint8_t& byte : secret) byte = static_cast<uint8_t>(random());
    endpoint.key = LinkKeyFor(secret, endpoint.instance, router);
    endpoint.name = absl::StrFormat("thread %d of this process", i);
    LinkListenerOptions listen;
    listen.self = {model.digest, endpoint.instance, secret};
    SHEAF_ASSIGN_OR_RETURN(
        member->listener,
        links.Listen(listen, *member->bell,
                     [server = member->server.get()](std::unique_ptr<FrameLink> link,
                                                     const Hello& hello) {
                       server->AddLink(std::move(link), hello);
                     }));
    endpoint.addresses = member->listener->addresses();
    workers->members_.push_back(std::move(member));
    workers->endpoints_.push_back(std::move(endpoint));
  }
  return workers;
}

}  // namespace sheaf
