#pragma once
// OutputTeller: the client's side of a sequence: its text, its stop strings, its thoughts, and the
// calls of its sink. The other side (step/sequence.h) knows tokens, blocks and the guide.
//
// The step thread decides what follows from tokens alone (stop tokens, max_tokens, max_model_len)
// and says so in its messages. A stop string is found here, in the text: then the client is told
// the end at once, and whatever the step thread has run beyond that token is neither told nor
// counted. The step thread hears of it and ends the sequence, too, with an Ending like any other.
//
// Beginning  prior output is told before anything else, as one event; log-probabilities of the
//            prompt in pieces before the first token.
// Ends       the first of stop string and Ending counts. An Ending comes once, last, always: it
//            makes the report.
// Ownership  shares the sink; lets go of it with the end. The tokenizer outlives it.
// Threads    one at a time: the submitter's until the sequence is taken, then one of delivery.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/engine_observer.h"
#include "router/schedule/generation.h"
#include "router/text/guide/thought_tracker.h"
#include "router/text/text_stream.h"

namespace sheaf {

// What the step thread says of a sequence, in order.

struct PromptLogprobsPiece {
  int first = 0;  // the prompt's token that the first entry belongs to
  std::vector<std::optional<TokenLogprobs>> entries;
};

struct NewToken {
  TokenId token = 0;
  bool forced = false;
  bool stops = false;  // a stop token: no text of it is told, and an Ending follows
  int32_t cached_tokens = 0;
  Duration queued{0};  // as Ending's
  TimePoint at;  // when its step was done
  std::optional<TokenLogprobs> logprobs;
};

struct Ending {
  FinishReason reason = FinishReason::kStop;
  absl::Status status;
  int32_t cached_tokens = 0;
  bool guide_error = false;
  Duration queued{0};  // submit to first admission
  TimePoint at;
};

using Message = std::variant<PromptLogprobsPiece, NewToken, Ending>;

class OutputTeller {
 public:
  OutputTeller(SequenceId id, const GenerationRequest& request,
               std::shared_ptr<GenerationSink> sink, const Tokenizer& tokenizer,
               std::shared_ptr<const StopStrings> stop_strings, TimePoint submitted);

  SequenceId id() const { return id_; }

  // A token of the prior output, told with all others of it. Returns the stop string that it
  // completes: then the output was at its end.
  std::optional<int> AcceptPrior(TokenId token);

  void Tell(PromptLogprobsPiece piece);
  // False: the client has had its end already, and this token does not exist for it.
  bool Tell(NewToken token, EngineObserver& observer);
  // Reports, and tells the client unless it knows.
  void Tell(Ending ending, EngineObserver& observer);

  // By a stop string, or by the Ending.
  bool ended() const { return sink_ == nullptr; }

 private:
  void TellBeginning();
  void TellEnd(FinishReason reason, absl::Status status);

  const SequenceId id_;
  std::shared_ptr<GenerationSink> sink_;
  const TimePoint submitted_;
  const std::vector<std::string> stop_strings_;
  const bool guided_;
  const int prompt_tokens_;

  ThoughtTracker thoughts_;  // over the tokens that the client was told
  TextStream text_;
  std::vector<TokenEvent> prior_;  // empty: none, or told already
  int prior_tokens_ = 0;
  int output_tokens_ = 0;  // told, prior ones included
  int32_t cached_tokens_ = 0;
  Duration queued_{0};
  std::optional<TimePoint> first_token_;
  std::optional<TimePoint> last_token_;
  std::optional<TokenId> stop_token_;
  std::optional<std::string> stop_string_;
  FinishReason reason_ = FinishReason::kStop;  // that the client was told
};

}  // namespace sheaf
