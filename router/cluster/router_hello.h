#pragma once
// What a router's process says first to others of its pool: sheaf.v1.RouterHello. Threads: pure.

#include <cstdint>
#include <string>

#include "base/ids.h"
#include "exchange/model_identity.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

struct RouterWho {
  ModelIdentity model;
  InstanceId instance;  // random for the process's life
  std::string host;
  int64_t pid = 0;
  std::string version;
  std::string token;  // of the pool; empty: none
};

v1::RouterHello MakeRouterHello(const RouterWho& who);

}  // namespace sheaf
