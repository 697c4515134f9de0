#include "exchange/link/hello_acceptor.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace sheaf {
namespace {

constexpr Duration kPauseWithoutDescriptors = std::chrono::milliseconds(100);
constexpr int kAcceptsAtOnce = 16;  // then others have their turn

}  // namespace

class HelloAcceptor::Pending final : public IoLoop::Handler {
 public:
  Pending(IoLoop& loop, std::shared_ptr<State> state, std::unique_ptr<Greeting> greeting)
      : loop_(loop),
        state_(std::move(state)),
        handshake_(state_->options.self, greeting->integrity(), FreshNonce()),
        peer_(greeting->peer()),
        greeting_(std::move(greeting)) {}

  void OnReady(IoLoop::Token self, uint32_t /*events*/) override {
    if (greeting_ == nullptr) return;
    const std::span<uint8_t> message(bytes_.data(), proving_ ? kHelloProofBytes : kHelloBytes);
    const absl::StatusOr<bool> whole = greeting_->Read(message, have_);
    if (whole.ok() && !*whole) return;
    have_ = 0;
    if (whole.ok() && !proving_ && TakeHello(message)) {
      proving_ = true;
      return;
    }
    // From here on the connection is a link's or nobody's.
    loop_.Remove(self);
    if (!whole.ok()) {
      Refused(absl::IsInvalidArgument(whole.status()) ? HelloRefusal::kMalformed
                                                      : HelloRefusal::kUnfinished,
              std::string(whole.status().message()));
    } else if (proving_) {
      TakeProof(message);
    }
    Finish(self);
  }

  void OnDeadline(IoLoop::Token self) override { GiveUp(self, "it was not finished in time"); }

  void GiveUp(IoLoop::Token self, const char* why) {
    if (greeting_ == nullptr) return;
    loop_.Remove(self);
    Refused(HelloRefusal::kUnfinished, why);
    Finish(self);
  }

 private:
  // Last of all: who is not listed is not waited for when the acceptor goes.
  void Finish(IoLoop::Token self) {
    greeting_ = nullptr;
    absl::MutexLock lock(&state_->mutex);
    state_->pending.erase(self);  // the caller holds this object
  }

  void Refused(HelloRefusal cause, std::string why) {
    if (state_->options.on_refused) state_->options.on_refused({cause, peer_, std::move(why)});
  }

  void Refuse(HelloVerdict verdict) {
    greeting_->Answer(handshake_.Answer(verdict)).IgnoreError();
    Refused(RefusalOf(verdict),
            WhyRefused(verdict, handshake_.hello(), greeting_->integrity()));
  }

  // Whether the connection goes on.
  bool TakeHello(std::span<const uint8_t> bytes) {
    absl::StatusOr<HelloVerdict> verdict = handshake_.TakeHello(bytes);
    if (!verdict.ok()) {
      Refused(HelloRefusal::kMalformed, std::string(verdict.status().message()));
      return false;
    }
    if (*verdict == HelloVerdict::kProve && state_->recent.Has(handshake_.hello().nonce))
      verdict = HelloVerdict::kReplayed;
    if (*verdict != HelloVerdict::kProve) {
      Refuse(*verdict);
      return false;
    }
    const absl::Status sent = greeting_->Answer(handshake_.Answer(HelloVerdict::kProve));
    if (!sent.ok()) Refused(HelloRefusal::kUnfinished, std::string(sent.message()));
    return sent.ok();
  }

  void TakeProof(std::span<const uint8_t> bytes) {
    absl::StatusOr<HelloVerdict> verdict = handshake_.TakeProof(bytes);
    if (!verdict.ok())
      return Refused(HelloRefusal::kMalformed, std::string(verdict.status().message()));
    // One that is made a link meanwhile, on another connection.
    if (state_->recent.Has(handshake_.hello().nonce)) verdict = HelloVerdict::kReplayed;
    LinkPlace place;
    if (*verdict == HelloVerdict::kWelcome) {
      const int before = state_->links->fetch_add(1);
      place = LinkPlace(static_cast<void*>(nullptr),
                        [links = state_->links](void*) { links->fetch_sub(1); });
      if (before >= state_->options.max_links) verdict = HelloVerdict::kBusy;
    }
    if (*verdict != HelloVerdict::kWelcome) return Refuse(*verdict);
    state_->recent.Add(handshake_.hello().nonce);
    absl::StatusOr<std::unique_ptr<FrameLink>> link =
        greeting_->Welcome(handshake_, std::move(place));
    if (!link.ok())
      return Refused(HelloRefusal::kUnfinished, std::string(link.status().message()));
    state_->on_link(*std::move(link), handshake_.hello());
  }

  IoLoop& loop_;
  const std::shared_ptr<State> state_;
  WorkerHandshake handshake_;
  const std::string peer_;
  std::unique_ptr<Greeting> greeting_;  // null once it is over
  bool proving_ = false;                // the hello was right so far
  std::array<uint8_t, kHelloBytes> bytes_{};
  static_assert(kHelloProofBytes <= kHelloBytes);
  size_t have_ = 0;
};

class HelloAcceptor::Accepting final : public IoLoop::Handler {
 public:
  Accepting(IoLoop& loop, int listening, std::shared_ptr<State> state)
      : loop_(loop), listening_(listening), state_(std::move(state)) {}

  void OnReady(IoLoop::Token self, uint32_t /*events*/) override {
    for (int i = 0; i < kAcceptsAtOnce; ++i) {
      UniqueFd socket(accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (socket.valid()) {
        Begin(std::move(socket));
        continue;
      }
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        loop_.SetEvents(self, 0);
        loop_.SetDeadline(self, std::chrono::steady_clock::now() + kPauseWithoutDescriptors);
      }
      if (errno != EINTR && errno != ECONNABORTED) return;
    }
  }

  void OnDeadline(IoLoop::Token self) override { loop_.SetEvents(self, EPOLLIN); }

 private:
  void Begin(UniqueFd socket) {
    MakeRoom();
    std::unique_ptr<Greeting> greeting = state_->new_greeting(std::move(socket));
    if (greeting == nullptr) return;
    const int fd = greeting->fd();
    auto pending = std::make_shared<Pending>(loop_, state_, std::move(greeting));
    const absl::StatusOr<IoLoop::Token> token =
        loop_.Add(fd, EPOLLIN | EPOLLRDHUP, pending,
                  std::chrono::steady_clock::now() + state_->options.hello_timeout);
    if (!token.ok()) return;
    absl::MutexLock lock(&state_->mutex);
    state_->pending[*token] = std::move(pending);
  }

  void MakeRoom() {
    std::pair<IoLoop::Token, std::shared_ptr<Pending>> oldest;
    {
      absl::MutexLock lock(&state_->mutex);
      if (state_->pending.size() < static_cast<size_t>(state_->options.max_links)) return;
      oldest = *state_->pending.begin();
    }
    oldest.second->GiveUp(oldest.first, "it gave way to newer ones");
  }

  IoLoop& loop_;
  const int listening_;
  const std::shared_ptr<State> state_;
};

absl::StatusOr<std::unique_ptr<HelloAcceptor>> HelloAcceptor::Start(
    std::shared_ptr<IoLoop> loop, UniqueFd listening, const LinkListenerOptions& options,
    NewGreeting new_greeting, OnLink on_link) {
  auto state = std::make_shared<State>(options, std::move(new_greeting), std::move(on_link));
  std::unique_ptr<HelloAcceptor> acceptor(
      new HelloAcceptor(std::move(loop), std::move(listening), state));
  const int fd = acceptor->listening_.get();
  SHEAF_ASSIGN_OR_RETURN(
      acceptor->token_,
      acceptor->loop_->Add(fd, EPOLLIN,
                           std::make_shared<Accepting>(*acceptor->loop_, fd, std::move(state))));
  return acceptor;
}

HelloAcceptor::~HelloAcceptor() {
  if (token_ == 0) return;
  loop_->Remove(token_);
  std::vector<IoLoop::Token> pending;
  {
    absl::MutexLock lock(&state_->mutex);
    for (const auto& [token, unused] : state_->pending) pending.push_back(token);
  }
  for (const IoLoop::Token token : pending) loop_->Remove(token);
  absl::MutexLock lock(&state_->mutex);
  state_->pending.clear();
}

}  // namespace sheaf
