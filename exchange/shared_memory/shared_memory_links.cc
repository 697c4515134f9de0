#include "exchange/shared_memory/shared_memory_links.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/link/hello_acceptor.h"
#include "exchange/link/socket_wait.h"
#include "exchange/shared_memory/shared_memory_link.h"
#include "exchange/shared_memory/unix_socket.h"

namespace sheaf {
namespace {

class SharedMemoryGreeting final : public Greeting {
 public:
  SharedMemoryGreeting(std::shared_ptr<IoLoop> loop, UniqueFd socket, size_t max_lane_bytes,
                       Bell& bell)
      : loop_(std::move(loop)),
        socket_(std::move(socket)),
        max_lane_bytes_(max_lane_bytes),
        bell_(bell) {}

  int fd() const override { return socket_.get(); }

  std::string peer() const override { return "a process of this host"; }
  FrameIntegrity integrity() const override { return FrameIntegrity::kNone; }

  absl::StatusOr<bool> Read(std::span<uint8_t> bytes, size_t& have) override {
    SHEAF_ASSIGN_OR_RETURN(auto message, ReceiveMessage(socket_.get(), bytes));
    if (!message.has_value()) return false;
    message_ = *std::move(message);  // the proof brings lane and bell
    have = bytes.size();
    return true;
  }

  absl::Status Answer(const HelloAnswerBytes& answer) override {
    return SendMessage(socket_.get(), answer, -1, -1);
  }

  absl::StatusOr<std::unique_ptr<FrameLink>> Welcome(const WorkerHandshake& handshake,
                                                     LinkPlace place) override {
    SHEAF_ASSIGN_OR_RETURN(LaneWriter out, LaneWriter::Create(max_lane_bytes_));
    const int lane = out.fd();
    const int socket = socket_.get();
    SHEAF_ASSIGN_OR_RETURN(
        auto link, SharedMemoryLink::Open(loop_, std::move(socket_), handshake.hello().link,
                                          std::move(out), std::move(message_.lane),
                                          std::move(message_.bell), bell_, std::move(place)));
    SHEAF_RETURN_IF_ERROR(
        SendMessage(socket, handshake.Answer(HelloVerdict::kWelcome), lane, bell_.fd()));
    return link;
  }

 private:
  const std::shared_ptr<IoLoop> loop_;
  UniqueFd socket_;
  const size_t max_lane_bytes_;
  Bell& bell_;
  ReceivedMessage message_;
};

class SharedMemoryListener final : public LinkListener {
 public:
  SharedMemoryListener(std::string address, std::unique_ptr<HelloAcceptor> acceptor)
      : address_(std::move(address)), acceptor_(std::move(acceptor)) {}
  std::vector<std::string> addresses() const override { return {address_}; }

 private:
  const std::string address_;
  const std::unique_ptr<HelloAcceptor> acceptor_;
};

class SharedMemoryConnector final : public LinkConnector {
 public:
  SharedMemoryConnector(SharedMemoryOptions options, std::shared_ptr<LazyIoLoop> loop)
      : options_(options), loop_(std::move(loop)), host_(HostIdentity()) {}

  bool Reaches(const std::string& address) const override {
    const auto parsed = SharedMemoryAddress::Parse(address);
    return parsed.ok() && !host_.empty() && parsed->host == host_;
  }
  std::string reach() const override { return absl::StrFormat("shm on host %s", host_); }

  absl::StatusOr<std::unique_ptr<FrameLink>> Connect(const std::vector<std::string>& addresses,
                                                     const LinkRequest& request, Bell& bell,
                                                     TimePoint deadline) override {
    for (const std::string& address : addresses) {
      if (!Reaches(address)) continue;
      absl::StatusOr<std::unique_ptr<FrameLink>> link =
          ConnectOne(address, request, bell, deadline);
      if (link.ok()) return link;
      return absl::Status(link.status().code(),
                          absl::StrFormat("%s: %s", address,
                                          std::string(link.status().message())));
    }
    return NothingInCommon(reach(), addresses);
  }

 private:
  absl::StatusOr<std::unique_ptr<FrameLink>> ConnectOne(const std::string& address,
                                                        const LinkRequest& request, Bell& bell,
                                                        TimePoint deadline) {
    SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<IoLoop> loop, loop_->Get());
    SHEAF_ASSIGN_OR_RETURN(const SharedMemoryAddress at, SharedMemoryAddress::Parse(address));
    SHEAF_ASSIGN_OR_RETURN(UniqueFd socket, ConnectTo(at.name));
    SHEAF_ASSIGN_OR_RETURN(LaneWriter out, LaneWriter::Create(options_.max_lane_bytes));
    RouterHandshake handshake(request, FrameIntegrity::kNone, FreshNonce());
    SHEAF_RETURN_IF_ERROR(SendMessage(socket.get(), handshake.hello(), -1, -1));
    HelloAnswerBytes answer{};
    SHEAF_RETURN_IF_ERROR(ReadAnswer(socket.get(), answer, deadline).status());
    const absl::StatusOr<HelloProofBytes> proof = handshake.Prove(answer);
    if (!proof.ok()) return AsConnectError(proof.status());
    SHEAF_RETURN_IF_ERROR(SendMessage(socket.get(), *proof, out.fd(), bell.fd()));
    SHEAF_ASSIGN_OR_RETURN(ReceivedMessage theirs, ReadAnswer(socket.get(), answer, deadline));
    const auto keys = handshake.Finish(answer);  // none: frames have no tags
    if (!keys.ok()) return AsConnectError(keys.status());
    absl::StatusOr<std::unique_ptr<SharedMemoryLink>> link = SharedMemoryLink::Open(
        loop, std::move(socket), request.link, std::move(out), std::move(theirs.lane),
        std::move(theirs.bell), bell, nullptr);
    if (!link.ok()) return absl::UnavailableError(link.status().message());
    return *std::move(link);
  }

  static absl::StatusOr<ReceivedMessage> ReadAnswer(int socket, HelloAnswerBytes& bytes,
                                                    TimePoint deadline) {
    for (;;) {
      SHEAF_RETURN_IF_ERROR(WaitUntilReadable(socket, deadline));
      absl::StatusOr<std::optional<ReceivedMessage>> message = ReceiveMessage(socket, bytes);
      if (!message.ok()) return absl::UnavailableError(message.status().message());
      if (message->has_value()) return **std::move(message);
    }
  }

  const SharedMemoryOptions options_;
  const std::shared_ptr<LazyIoLoop> loop_;
  const std::string host_;
};

}  // namespace

SharedMemoryLinkMaker::SharedMemoryLinkMaker(SharedMemoryOptions options)
    : options_(options), loop_(std::make_shared<LazyIoLoop>("sheaf-shm")) {}

absl::StatusOr<std::unique_ptr<LinkListener>> SharedMemoryLinkMaker::Listen(
    const LinkListenerOptions& options, Bell& bell, OnLink on_link) {
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<IoLoop> loop, loop_->Get());
  SHEAF_ASSIGN_OR_RETURN(const SharedMemoryAddress address, SharedMemoryAddress::New());
  if (address.host.empty())
    return absl::FailedPreconditionError("shared memory: this host cannot be told from others");
  SHEAF_ASSIGN_OR_RETURN(UniqueFd listening, ListenAt(address.name));
  const size_t max_lane_bytes = options_.max_lane_bytes;
  SHEAF_ASSIGN_OR_RETURN(
      auto acceptor,
      HelloAcceptor::Start(
          loop, std::move(listening), options,
          [weak = std::weak_ptr<IoLoop>(loop), max_lane_bytes,
           &bell](UniqueFd socket) -> std::unique_ptr<Greeting> {
            return std::make_unique<SharedMemoryGreeting>(weak.lock(), std::move(socket),
                                                          max_lane_bytes, bell);
          },
          std::move(on_link)));
  return std::make_unique<SharedMemoryListener>(address.ToString(), std::move(acceptor));
}

std::unique_ptr<LinkConnector> SharedMemoryLinkMaker::NewConnector() {
  return std::make_unique<SharedMemoryConnector>(options_, loop_);
}

}  // namespace sheaf
