#include "cli/process/service_manager.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"

namespace sheaf {
namespace {

// The variable's value, which is gone then.
std::string TakeVariable(const char* name) {
  const char* const value = std::getenv(name);
  std::string taken = value != nullptr ? value : "";
  unsetenv(name);
  return taken;
}

// None: it cannot be had.
UniqueFd Connect(const std::string& name) {
  sockaddr_un address{};
  if (name.empty() || name.size() >= sizeof(address.sun_path)) return UniqueFd();
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';
  UniqueFd made(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  if (!made.valid() ||
      connect(made.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    spdlog::warn("NOTIFY_SOCKET: nobody listens at {}: {}", name, std::strerror(errno));
    return UniqueFd();
  }
  return made;
}

}  // namespace

ServiceManagerAddress ServiceManagerAddress::Take() {
  ServiceManagerAddress address;
  address.socket = TakeVariable("NOTIFY_SOCKET");
  const std::string microseconds = TakeVariable("WATCHDOG_USEC");
  const std::string pid = TakeVariable("WATCHDOG_PID");
  int64_t value = 0;
  if (absl::SimpleAtoi(microseconds, &value) && value > 0 &&
      (pid.empty() || pid == std::to_string(getpid()))) {
    address.watchdog = std::chrono::microseconds(value);
  }
  return address;
}

ServiceManager::ServiceManager(const ServiceManagerAddress& address, const Clock& clock)
    : clock_(clock), watchdog_(address.watchdog) {
  if (!address.socket.empty()) socket_ = Connect(address.socket);
}

void ServiceManager::Ready() { Tell("READY=1"); }

void ServiceManager::Stopping() { Tell("STOPPING=1"); }

void ServiceManager::StatusIs(const std::string& line) {
  if (line == status_) return;
  status_ = line;
  Tell("STATUS=" + line);
}

bool ServiceManager::Due() const {
  return socket_.valid() && watchdog_ > Duration::zero() &&
         (!told_any_ || clock_.Now() - told_ >= watchdog_ / 4);
}

void ServiceManager::TellProgress() {
  Tell("WATCHDOG=1");
  told_ = clock_.Now();
  told_any_ = true;
  warned_ = false;
}

void ServiceManager::Tick(bool healthy) {
  if (!Due()) return;
  if (healthy) return TellProgress();
  // Half of the time is over: whoever reads the log later knows what came.
  if (told_any_ && clock_.Now() - told_ >= watchdog_ / 2 && !std::exchange(warned_, true)) {
    spdlog::error("no progress: the service manager ends this process if none comes");
  }
}

void ServiceManager::TickRounds(const std::vector<uint64_t>& rounds) {
  if (!Due()) return;
  bool healthy = true;
  for (size_t i = 0; i < rounds.size() && i < rounds_.size(); ++i) {
    if (rounds[i] == rounds_[i]) healthy = false;
  }
  if (healthy) rounds_ = rounds;
  Tick(healthy);
}

void ServiceManager::Tell(const std::string& text) {
  if (!socket_.valid()) return;
  (void)send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

}  // namespace sheaf
