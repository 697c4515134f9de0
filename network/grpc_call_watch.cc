#include "network/grpc_call_watch.h"

#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "base/log_limit.h"
#include "grpc/grpc.h"
#include "grpc/support/alloc.h"
#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"

namespace sheaf {
namespace {

using Json = nlohmann::json;

// From here on connections are looked at one by one.
constexpr int64_t kManyOfLook = 50;  // calls begun since the last look

// After calls began at that rate: then freed memory goes back to the system.
constexpr int kCalmLooks = 20;

// What a channelz function returned, which is freed. Null: it knows nothing of that kind any more.
Json Parsed(char* text) {
  if (text == nullptr) return {};
  const std::unique_ptr<char, void (*)(void*)> owned(text, gpr_free);
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

const Json& Member(const Json& object, const char* name) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(name);
  return found == object.end() ? nothing : *found;
}

std::string Text(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

// Proto JSON writes 64-bit numbers as text and leaves zeros out.
int64_t Count(const Json& object, const char* name) {
  int64_t value = 0;
  return absl::SimpleAtoi(Text(object, name), &value) ? value : 0;
}

void AddPeers(int64_t server, std::vector<PeerStreams>& peers) {
  for (int64_t next = 0;;) {
    const Json page = Parsed(grpc_channelz_get_server_sockets(server, next, 0));
    const Json& sockets = Member(page, "socketRef");
    for (const Json& ref : sockets) {
      const int64_t id = Count(ref, "socketId");
      next = std::max(next, id + 1);
      const Json socket = Parsed(grpc_channelz_get_socket(id));
      const Json& data = Member(Member(socket, "socket"), "data");
      const std::string name = Text(ref, "name");  // "chttp2 ipv4:127.0.0.1:5"
      peers.push_back({name.substr(name.rfind(' ') + 1),
                       Count(data, "streamsStarted") - Count(data, "streamsSucceeded") -
                           Count(data, "streamsFailed")});
    }
    if (sockets.empty() || Member(page, "end") == true) return;
  }
}

}  // namespace

std::vector<std::string> GrpcCallWatch::TooMany(std::vector<PeerStreams> peers) {
  std::sort(peers.begin(), peers.end(),
            [](const PeerStreams& a, const PeerStreams& b) { return a.open > b.open; });
  int64_t all = 0;
  for (const PeerStreams& peer : peers) all += peer.open;
  std::vector<std::string> too_many;
  for (PeerStreams& peer : peers) {
    if (peer.open <= kMostOfOne && all <= kMostOfAll) break;
    all -= peer.open;
    too_many.push_back(std::move(peer.peer));
  }
  return too_many;
}

GrpcCallWatch::GrpcCallWatch(Drop drop)
    : drop_(std::move(drop)), thread_([this] { Run(); }) {}

GrpcCallWatch::~GrpcCallWatch() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

bool GrpcCallWatch::Waited(std::chrono::milliseconds time) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_), absl::FromChrono(time));
  return !stopping_;
}

void GrpcCallWatch::Run() {
  pthread_setname_np(pthread_self(), "sheaf-calls");
  int64_t begun = 0;
  int calm_looks = kCalmLooks;
  LogLimit drops_said;
  // Where nothing begins the looks are fewer.
  for (bool quiet = true; Waited(quiet ? 3 * kLook : kLook);) {
    const Json servers = Parsed(grpc_channelz_get_servers(0));
    int64_t begun_now = 0;
    for (const Json& server : Member(servers, "server")) {
      begun_now += Count(Member(server, "data"), "callsStarted");
    }
    const int64_t since = begun_now - std::exchange(begun, begun_now);
    quiet = since == 0;
    if (since < kManyOfLook) {
      // By then gRPC, too, has let go.
      if (++calm_looks == kCalmLooks) malloc_trim(0);
      continue;
    }
    calm_looks = 0;
    std::vector<PeerStreams> peers;
    for (const Json& server : Member(servers, "server")) {
      AddPeers(Count(Member(server, "ref"), "serverId"), peers);
    }
    for (const std::string& peer : TooMany(std::move(peers))) {
      if (const auto note = drops_said.Say(std::chrono::steady_clock::now())) {
        spdlog::warn("gRPC: {} begins calls faster than they can be answered: disconnected{}", peer,
                     *note);
      }
      drop_(peer);
    }
  }
}

}  // namespace sheaf
