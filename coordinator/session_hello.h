#pragma once
// What a worker or a router says first, checked: protocol, model, token, and every field from
// outside within its bounds. Nothing of a refused hello is used.
//
// Errors     kUnauthenticated: the token. kFailedPrecondition: another protocol version or
//            checkpoint, wanted and got named. kInvalidArgument: a field, by its name.
// Threads    pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "coordinator/expert_set.h"
#include "exchange/link/link_keys.h"
#include "exchange/model_identity.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

struct WorkerFacts {
  InstanceId instance;
  LinkSecret secret{};
  std::vector<std::string> addresses;
  int64_t pid = 0;
  std::string host;
  std::string metrics_address;
  std::string version;
  uint64_t memory_bytes = 0;
  uint64_t expert_bytes = 1;
  int preferred_id = -1;
  bool spare = false;
  uint64_t holdings_number = 0;
  ExpertSet held;
};

struct RouterFacts {
  InstanceId instance;
  std::string host;
  int64_t pid = 0;
  std::string version;
};

// Ids that workers may ask for are below this.
inline constexpr int kMaxWorkers = 4096;

absl::StatusOr<WorkerFacts> CheckWorkerHello(const v1::WorkerHello& hello,
                                             const ModelIdentity& model, std::string_view token);
absl::StatusOr<RouterFacts> CheckRouterHello(const v1::RouterHello& hello,
                                             const ModelIdentity& model, std::string_view token);

struct AnnouncedSet {
  uint64_t number = 0;
  ExpertSet experts;
};
// Bytes of Holdings; kInvalidArgument: another shape, or an expert of a dense layer.
absl::StatusOr<AnnouncedSet> ReadHoldings(std::string_view bytes, const ExpertGrid& grid);

// The time it takes says nothing about where the two differ.
bool SameToken(std::string_view wanted, std::string_view got);

ModelIdentity FromProto(const v1::ModelIdentity& model);
void ToProto(const ModelIdentity& model, v1::ModelIdentity& proto);
// One line for messages.
std::string Describe(const ModelIdentity& model);

}  // namespace sheaf
