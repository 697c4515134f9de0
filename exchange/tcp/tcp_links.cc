#include "exchange/tcp/tcp_links.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/link/hello_acceptor.h"
#include "exchange/link/socket_wait.h"
#include "exchange/tcp/tcp_address.h"
#include "exchange/tcp/tcp_link.h"
#include "exchange/tcp/tcp_socket.h"

namespace sheaf {
namespace {

// Fills more of `bytes`; true when all are there. Reads no further: frames follow.
absl::StatusOr<bool> ReadInto(int socket, std::span<uint8_t> bytes, size_t& have) {
  while (have < bytes.size()) {
    const ssize_t got = recv(socket, bytes.data() + have, bytes.size() - have, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (got < 0) return absl::UnavailableError(std::strerror(errno));
    if (got == 0) return absl::UnavailableError("the peer hung up during the hello");
    have += static_cast<size_t>(got);
  }
  return true;
}

// A few bytes on a fresh connection: they fit or it is broken.
absl::Status Write(int socket, std::span<const uint8_t> bytes) {
  const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == static_cast<ssize_t>(bytes.size())) return absl::OkStatus();
  return absl::UnavailableError(sent < 0 ? std::strerror(errno) : "the hello was cut short");
}

class TcpGreeting final : public Greeting {
 public:
  TcpGreeting(std::shared_ptr<IoLoop> loop, UniqueFd socket, const TcpOptions& options, Bell& bell)
      : loop_(std::move(loop)),
        socket_(std::move(socket)),
        limits_(options.limits),
        integrity_(options.integrity),
        bell_(bell) {
    SetLinkOptions(socket_.get(), options.dead_after);
  }

  int fd() const override { return socket_.get(); }

  std::string peer() const override { return PeerName(socket_.get()); }
  FrameIntegrity integrity() const override { return integrity_; }

  absl::StatusOr<bool> Read(std::span<uint8_t> bytes, size_t& have) override {
    return ReadInto(socket_.get(), bytes, have);
  }

  absl::Status Answer(const HelloAnswerBytes& answer) override {
    return Write(socket_.get(), answer);
  }

  absl::StatusOr<std::unique_ptr<FrameLink>> Welcome(const WorkerHandshake& handshake,
                                                     LinkPlace place) override {
    std::optional<TcpMacs> macs;
    if (const std::optional<FrameKeys> keys = handshake.keys(); keys.has_value()) {
      SHEAF_ASSIGN_OR_RETURN(macs, TcpMacs::Of(keys->to_router, keys->to_worker));
    }
    SHEAF_RETURN_IF_ERROR(Write(socket_.get(), handshake.Answer(HelloVerdict::kWelcome)));
    return TcpLink::Open(loop_, std::move(socket_), handshake.hello().link, limits_,
                         std::move(macs), bell_, std::move(place));
  }

 private:
  const std::shared_ptr<IoLoop> loop_;
  UniqueFd socket_;
  const TcpLimits limits_;
  const FrameIntegrity integrity_;
  Bell& bell_;
};

class TcpListener final : public LinkListener {
 public:
  TcpListener(std::string address, std::unique_ptr<HelloAcceptor> acceptor)
      : address_(std::move(address)), acceptor_(std::move(acceptor)) {}
  std::vector<std::string> addresses() const override { return {address_}; }

 private:
  const std::string address_;
  const std::unique_ptr<HelloAcceptor> acceptor_;
};

class TcpConnector final : public LinkConnector {
 public:
  TcpConnector(const TcpOptions& options, std::shared_ptr<LazyIoLoop> loop)
      : options_(options), loop_(std::move(loop)) {}

  bool Reaches(const std::string& address) const override {
    return TcpAddress::Parse(address).ok();
  }
  std::string reach() const override { return "tcp"; }

  absl::StatusOr<std::unique_ptr<FrameLink>> Connect(const std::vector<std::string>& addresses,
                                                     const LinkRequest& request, Bell& bell,
                                                     TimePoint deadline) override {
    absl::Status last;
    for (const std::string& address : addresses) {
      const absl::StatusOr<TcpAddress> to = TcpAddress::Parse(address);
      if (!to.ok()) continue;
      absl::StatusOr<std::unique_ptr<FrameLink>> link = ConnectOne(*to, request, bell, deadline);
      if (link.ok()) return link;
      last = absl::Status(link.status().code(),
                          absl::StrFormat("%s: %s", to->ToString(),
                                          std::string(link.status().message())));
      if (!absl::IsUnavailable(last) && !absl::IsUnauthenticated(last)) return last;
    }
    if (!last.ok()) return last;
    return NothingInCommon(reach(), addresses);
  }

 private:
  absl::StatusOr<std::unique_ptr<FrameLink>> ConnectOne(const TcpAddress& to,
                                                        const LinkRequest& request, Bell& bell,
                                                        TimePoint deadline) {
    SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<IoLoop> loop, loop_->Get());
    std::optional<TcpAddress> source;
    if (!options_.source_host.empty()) {
      SHEAF_ASSIGN_OR_RETURN(source, TcpAddress::FromHost(options_.source_host, 0));
      // Of the other family it cannot be the source; the routes decide then.
      if (source->family() != to.family()) source.reset();
    }
    SHEAF_ASSIGN_OR_RETURN(UniqueFd socket,
                           ConnectTcp(to, source.has_value() ? &*source : nullptr, deadline));
    SetLinkOptions(socket.get(), options_.dead_after);
    RouterHandshake handshake(request, options_.integrity, FreshNonce());
    SHEAF_RETURN_IF_ERROR(Write(socket.get(), handshake.hello()));
    SHEAF_ASSIGN_OR_RETURN(const HelloAnswerBytes challenge, ReadAnswer(socket.get(), deadline));
    const absl::StatusOr<HelloProofBytes> proof = handshake.Prove(challenge);
    if (!proof.ok()) return AsConnectError(proof.status());
    SHEAF_RETURN_IF_ERROR(Write(socket.get(), *proof));
    SHEAF_ASSIGN_OR_RETURN(const HelloAnswerBytes welcome, ReadAnswer(socket.get(), deadline));
    const absl::StatusOr<std::optional<FrameKeys>> keys = handshake.Finish(welcome);
    if (!keys.ok()) return AsConnectError(keys.status());
    std::optional<TcpMacs> macs;
    if (keys->has_value()) {
      SHEAF_ASSIGN_OR_RETURN(macs, TcpMacs::Of((*keys)->to_worker, (*keys)->to_router));
    }
    return TcpLink::Open(loop, std::move(socket), request.link, options_.limits, std::move(macs),
                         bell, nullptr);
  }

  static absl::StatusOr<HelloAnswerBytes> ReadAnswer(int socket, TimePoint deadline) {
    HelloAnswerBytes bytes{};
    for (size_t have = 0;;) {
      SHEAF_ASSIGN_OR_RETURN(const bool whole, ReadInto(socket, bytes, have));
      if (whole) return bytes;
      SHEAF_RETURN_IF_ERROR(WaitUntilReadable(socket, deadline));
    }
  }

  const TcpOptions options_;
  const std::shared_ptr<LazyIoLoop> loop_;
};

}  // namespace

TcpLinkMaker::TcpLinkMaker(TcpOptions options)
    : options_(std::move(options)), loop_(std::make_shared<LazyIoLoop>("sheaf-tcp")) {}

absl::StatusOr<std::unique_ptr<LinkListener>> TcpLinkMaker::Listen(
    const LinkListenerOptions& options, Bell& bell, OnLink on_link) {
  SHEAF_ASSIGN_OR_RETURN(UniqueFd listening,
                         ListenTcp(options_.host, options_.first_port, options_.last_port));
  SHEAF_ASSIGN_OR_RETURN(TcpAddress address, TcpAddress::OfSocket(listening.get()));
  if (!options_.advertised_host.empty()) {
    SHEAF_ASSIGN_OR_RETURN(address,
                           TcpAddress::FromHost(options_.advertised_host, address.port()));
  } else if (address.is_wildcard()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "tcp: it listens on all addresses (%s): which one shall routers be told?", options_.host));
  }
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<IoLoop> loop, loop_->Get());
  SHEAF_ASSIGN_OR_RETURN(
      auto acceptor,
      HelloAcceptor::Start(
          loop, std::move(listening), options,
          [weak = std::weak_ptr<IoLoop>(loop), tcp = options_,
           &bell](UniqueFd socket) -> std::unique_ptr<Greeting> {
            return std::make_unique<TcpGreeting>(weak.lock(), std::move(socket), tcp, bell);
          },
          std::move(on_link)));
  return std::make_unique<TcpListener>(address.ToString(), std::move(acceptor));
}

std::unique_ptr<LinkConnector> TcpLinkMaker::NewConnector() {
  return std::make_unique<TcpConnector>(options_, loop_);
}

}  // namespace sheaf
