#pragma once
// ConnectionAcceptor: listens on a TCP address and hands over what connects, whatever becomes of
// the process's descriptors: when there are none left the newest connection is refused (taken with
// a spare descriptor and closed), and once there are again everything is as before. It never stops
// listening by itself and never spins.
//
// Addresses  all that the host name resolves to and that this machine has, on one port.
// Sockets    are handed over non-blocking, close-on-exec, without Nagle's delay, with keep-alive (a
//            host that is gone is noticed after about two minutes).
// Threads    one of its own; the callbacks run on it and must not block. Stop: any other thread.
// Errors     Listen: kUnavailable naming the address and why.
// Ownership  Stop (or the destructor) closes the listening sockets; callbacks are over then.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sheaf {

struct ConnectionAcceptorOptions {
  std::string name;  // for the log: "HTTP", "gRPC"
  std::string host;
  uint16_t port = 0;  // 0: any free one
  // Sockets with this number or a higher one are `crowded`; 0: none is. See DescriptorShares.
  int descriptor_ceiling = 0;
};

class ConnectionAcceptor {
 public:
  struct Callbacks {
    // The callee owns the socket. `crowded`: descriptors are nearly out, it should not be kept.
    std::function<void(int socket, bool crowded)> connected;
    // One was closed at once, for want of a descriptor.
    std::function<void()> refused;
  };

  static absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> Listen(
      const ConnectionAcceptorOptions& options);
  ~ConnectionAcceptor() { Stop(); }
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;
  ConnectionAcceptor& operator=(const ConnectionAcceptor&) = delete;

  uint16_t port() const { return port_; }
  // Nobody of another machine can connect.
  bool on_loopback() const { return on_loopback_; }
  // Until then connections wait in the kernel. Once.
  void Start(Callbacks callbacks);
  void Stop();

 private:
  explicit ConnectionAcceptor(const ConnectionAcceptorOptions& options) : options_(options) {}

  absl::Status ListenOnAll();
  void Run();
  // False: descriptors are out, so better wait a little.
  bool Accept(int listening);
  bool RefuseOne(int listening);
  void Warn(int error);

  const ConnectionAcceptorOptions options_;
  uint16_t port_ = 0;
  bool on_loopback_ = true;
  std::vector<UniqueFd> listening_;
  UniqueFd ending_;  // readable when the thread shall end
  UniqueFd spare_;
  Callbacks callbacks_;
  int64_t warned_at_ = 0;  // seconds of the steady clock
  std::thread thread_;
};

}  // namespace sheaf
