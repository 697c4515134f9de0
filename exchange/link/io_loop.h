#pragma once
// IoLoop: one thread that sleeps on many descriptors (epoll) and deadlines and calls whoever waits
// for them. A byte mover has one for all its sockets, not a thread a link.
//
//   Add(fd, events, handler) -> token; OnReady(token, events) whenever the descriptor has some of
//   them (level-triggered), OnDeadline(token) once when its deadline passes; Remove(token).
//
// Threads    Add, Set.., Remove: any. Handlers are called one at a time, from the loop's thread.
//            When Remove returns no call for that token runs and none will come; called from the
//            loop's own thread it does not wait for the call that it is part of.
// Ownership  keeps handlers until they are removed; descriptors are borrowed until then. The last
//            owner must not be a handler's call.
// Errors     Start, Add: kResourceExhausted: no descriptors or no thread.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace sheaf {

class IoLoop {
 public:
  using Token = uint64_t;

  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void OnReady(Token self, uint32_t events) = 0;
    virtual void OnDeadline(Token /*self*/) {}
  };

  // The name is what /proc shows of the thread; at most 15 characters.
  static absl::StatusOr<std::shared_ptr<IoLoop>> Start(const char* thread_name);
  ~IoLoop();

  absl::StatusOr<Token> Add(int fd, uint32_t events, std::shared_ptr<Handler> handler,
                            TimePoint deadline = TimePoint::max());
  void SetEvents(Token token, uint32_t events);
  void SetDeadline(Token token, TimePoint deadline);
  void Remove(Token token);

 private:
  struct Entry {
    int fd = -1;
    TimePoint deadline = TimePoint::max();
    std::shared_ptr<Handler> handler;
  };

  IoLoop(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  void Run();
  void Wake();
  bool WakesLoop() const { return std::this_thread::get_id() != thread_.get_id(); }
  // Calls `call` with the handler of that token, if it is still there.
  template <typename Call>
  void With(Token token, const Call& call);
  int TimeoutMs();
  void CallDeadlines();

  const UniqueFd epoll_;
  const UniqueFd wake_;
  absl::Mutex mutex_;
  std::map<Token, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<TimePoint, Token>> deadlines_ ABSL_GUARDED_BY(mutex_);
  Token last_token_ ABSL_GUARDED_BY(mutex_) = 0;
  Token running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// A loop that starts when it is first needed, so that who may still fork can build all objects.
class LazyIoLoop {
 public:
  explicit LazyIoLoop(const char* thread_name) : thread_name_(thread_name) {}
  absl::StatusOr<std::shared_ptr<IoLoop>> Get();

 private:
  const char* const thread_name_;
  absl::Mutex mutex_;
  std::shared_ptr<IoLoop> loop_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
