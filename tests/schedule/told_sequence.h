#pragma once
// A sequence and its teller in one thread, as in an engine without threads of delivery.

#include <optional>
#include <utility>

#include "router/schedule/step/sequence.h"

namespace sheaf::testing {

inline EngineObserver& NoObserver() {
  static EngineObserver observer;
  return observer;
}

// Accepts the token and tells it. The reason when it is the last.
inline std::optional<FinishReason> AcceptAndTell(Sequence& sequence, TokenId token,
                                                 bool forced = false) {
  if (auto piece = sequence.TakePromptLogprobs()) sequence.teller()->Tell(*std::move(piece));
  std::optional<FinishReason> end = sequence.Accept(token);
  NewToken told;
  told.token = token;
  told.forced = forced;
  told.stops = end == FinishReason::kStop;
  sequence.teller()->Tell(std::move(told), NoObserver());
  if (sequence.teller()->ended()) end = FinishReason::kStop;
  return end;
}

inline void TellEnd(Sequence& sequence, FinishReason reason) {
  Ending ending;
  ending.reason = reason;
  sequence.teller()->Tell(std::move(ending), NoObserver());
}

}  // namespace sheaf::testing
