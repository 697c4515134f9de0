#pragma once
// HelloAcceptor: a worker's side of the hello (link_handshake.h) over any stream of connections:
// accepts, reads, judges, answers, and hands out the link. What is special to a byte mover (how
// bytes are read, what a link is made of) is its Greeting.
//
// Bounds     max_links links that live, as many unfinished hellos (the oldest gives way to a new
//            one: a right hello takes no time), hello_timeout for the whole of each. A connection
//            that says anything but a right hello is closed and told to on_refused; it costs nobody
//            else anything.
// Replay     a hello heard again is refused by its proof, which fits one nonce of this side alone.
//            The nonces of the last links are kept, so that it can also be called what it is.
// Threads    all of it happens on the loop's thread, on_link and on_refused too. Destroy: any other
//            thread; after that neither is called any more.
// Ownership  keeps the loop; new_greeting must not (it may go on the loop's own thread).
// Errors     Start: as IoLoop::Add. Too few descriptors to accept: tried again 100 ms later.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "exchange/link/io_loop.h"
#include "exchange/link/link_handshake.h"
#include "exchange/link/link_maker.h"
#include "exchange/link/recent_nonces.h"

namespace sheaf {

// Held by a link of a listener as long as it lives.
using LinkPlace = std::shared_ptr<void>;

// One accepted connection until its hello is judged.
class Greeting {
 public:
  virtual ~Greeting() = default;
  virtual int fd() const = 0;
  virtual std::string peer() const = 0;  // for the log
  // What links of this mover have.
  virtual FrameIntegrity integrity() const = 0;
  // Reads more of one message into `bytes`, of which `have` are there; true: it is whole. Never
  // reads past it.
  virtual absl::StatusOr<bool> Read(std::span<uint8_t> bytes, size_t& have) = 0;
  virtual absl::Status Answer(const HelloAnswerBytes& answer) = 0;
  // Sends the welcome and turns the connection into a link.
  virtual absl::StatusOr<std::unique_ptr<FrameLink>> Welcome(const WorkerHandshake& handshake,
                                                             LinkPlace place) = 0;
};

class HelloAcceptor {
 public:
  using NewGreeting = std::function<std::unique_ptr<Greeting>(UniqueFd socket)>;

  // `listening`: a socket that listens and does not block.
  static absl::StatusOr<std::unique_ptr<HelloAcceptor>> Start(std::shared_ptr<IoLoop> loop,
                                                              UniqueFd listening,
                                                              const LinkListenerOptions& options,
                                                              NewGreeting new_greeting,
                                                              OnLink on_link);
  ~HelloAcceptor();

 private:
  class Accepting;
  class Pending;

  // Shared with the handlers, which may be on their way out when the acceptor goes.
  struct State {
    State(LinkListenerOptions o, NewGreeting g, OnLink l)
        : options(std::move(o)),
          new_greeting(std::move(g)),
          on_link(std::move(l)),
          links(options.live_links != nullptr ? options.live_links
                                              : std::make_shared<std::atomic<int>>(0)) {}
    const LinkListenerOptions options;
    const NewGreeting new_greeting;
    const OnLink on_link;
    const std::shared_ptr<std::atomic<int>> links;
    RecentNonces recent;  // the loop's thread's
    absl::Mutex mutex;
    std::map<IoLoop::Token, std::shared_ptr<Pending>> pending ABSL_GUARDED_BY(mutex);
  };

  HelloAcceptor(std::shared_ptr<IoLoop> loop, UniqueFd listening, std::shared_ptr<State> state)
      : loop_(std::move(loop)), listening_(std::move(listening)), state_(std::move(state)) {}

  const std::shared_ptr<IoLoop> loop_;
  const UniqueFd listening_;
  const std::shared_ptr<State> state_;
  IoLoop::Token token_ = 0;
};

}  // namespace sheaf
