#pragma once
// GenerationCall: one API request while the engine works on it: its choices are submitted together,
// their events wait here until the face takes them, and however it ends the engine is told to stop
// what still runs.
//
// The engine's threads only append and wake. A client that reads too slowly meets a bound: beyond
// max_unsent_bytes the choices are cancelled and the call ends with kResourceExhausted.
// Log-probabilities of the prompt come faster than any client reads, so they do not count there:
// how many there will be is known before, and StartRequest has bounded them.
//
// Threads    Take, Abandon, SetWake: any thread of the face. The wake function is called on the
//            WakeQueue's thread, never on the engine's; one call of it may still be under way
//            when Abandon returns, so it must hold what it touches.
// Errors     Start: whatever Submit said, with a retry hint. Later errors come from Take.
// Metrics    every call is counted once, at its end, with outcome and duration; also first token
//            and token gaps. The request log hears of it then, too.

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "router/api/generation/request_log.h"
#include "router/api/generation/wake_queue.h"
#include "router/api/request/api_error.h"
#include "router/metrics/router_metrics.h"
#include "router/schedule/generation.h"

namespace sheaf {

// A piece of them; they come in order.
using PromptLogprobs = std::vector<std::optional<TokenLogprobs>>;
// What the client has already: the face goes on after it and sends none of it.
using PriorOutput = std::vector<TokenEvent>;

struct ChoiceEvent {
  int choice = 0;
  std::variant<PromptLogprobs, PriorOutput, TokenEvent, GenerationEnd> what;
};

class GenerationCall final : public Wakeable, public std::enable_shared_from_this<GenerationCall> {
 public:
  static constexpr size_t kTakeBytes = size_t{1} << 20;

  // What a call needs of its surroundings; all outlive it.
  struct Services {
    GenerationEngine& engine;
    WakeQueue& wakes;
    RouterMetrics& metrics;
    const Clock& clock;
    size_t max_unsent_bytes;
    RequestLog* log = nullptr;  // null: none is kept
  };

  struct Batch {
    std::vector<ChoiceEvent> events;  // in order within a choice
    bool more = false;                // there is more to take at once; no wake comes for it
    std::optional<ApiError> error;    // after `events` the call failed; nothing follows
    bool ended = false;               // every choice has ended, or error; nothing follows
  };

  // Of the request, for its log.
  struct Origin {
    std::string id{};           // empty: its first choice's
    std::string response_id{};  // empty: the same
    bool chat = false;
    std::optional<TraceContext> trace{};
  };
  static ApiResult<std::shared_ptr<GenerationCall>> Start(const Services& services,
                                                          RequestFace face, TimePoint arrival,
                                                          std::vector<GenerationRequest> choices,
                                                          Origin origin);
  static ApiResult<std::shared_ptr<GenerationCall>> Start(const Services& services,
                                                          RequestFace face, TimePoint arrival,
                                                          std::vector<GenerationRequest> choices) {
    return Start(services, face, arrival, std::move(choices), Origin{});
  }
  ~GenerationCall() override;

  enum class WakeFor { kEveryEvent, kMuch };
  // `wake` is called when there is something to Take; at once if there is already. kMuch: for
  // whoever only wants the whole: at the end, and when about kTakeBytes wait.
  void SetWake(std::function<void()> wake, WakeFor wake_for = WakeFor::kEveryEvent);
  // Of all that came since the last call about kTakeBytes, so that what is made of it stays small
  // however much waits; may be empty.
  Batch Take();
  // The client is gone: cancels what runs. Does nothing after the end.
  void Abandon(RequestOutcome outcome);

  void OnWake() override;

 private:
  class Sink;
  struct Choice {
    std::optional<SequenceId> sequence;
    std::optional<TimePoint> last_token;
    bool ended = false;
    bool first_of_prompt = true;  // whose prompt no choice before it has
    std::optional<FinishReason> reason;
  };
  // For the request log.
  struct Facts {
    Origin origin;
    std::string fairness_key;
    AskedGeneration asked;
    Duration submitted{0};
    int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0, text_bytes = 0;
    Duration queued{0};
    std::optional<Duration> first_token;
  };

  GenerationCall(const Services& services, RequestFace face, TimePoint arrival,
                 const std::vector<GenerationRequest>& choices, Origin origin);

  // `counts`: towards max_unsent_bytes.
  void Append(ChoiceEvent event, size_t bytes, bool counts);
  void OnAdmitted(Duration queued);
  void OnToken(int choice, TokenEvent event);
  void OnEnd(int choice, GenerationEnd end);
  void Notify();
  void CancelAll();
  void Count(RequestOutcome outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Services services_;
  const RequestFace face_;
  const TimePoint arrival_;
  std::atomic<bool> wake_pending_{false};

  absl::Mutex mutex_;
  std::vector<Choice> choices_ ABSL_GUARDED_BY(mutex_);
  Facts facts_ ABSL_GUARDED_BY(mutex_);
  struct Unsent {
    ChoiceEvent event;
    size_t bytes = 0;
    bool counts = true;
  };
  std::deque<Unsent> events_ ABSL_GUARDED_BY(mutex_);
  size_t unsent_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of those that count
  size_t running_ ABSL_GUARDED_BY(mutex_);
  bool any_length_ ABSL_GUARDED_BY(mutex_) = false;
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  bool counted_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancel_wanted_ ABSL_GUARDED_BY(mutex_) = false;  // by OnWake, off the step thread
  std::optional<ApiError> error_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
  WakeFor wake_for_ ABSL_GUARDED_BY(mutex_) = WakeFor::kEveryEvent;
};

// How a refused or failed request counts.
RequestOutcome OutcomeOf(const absl::Status& status);

}  // namespace sheaf
