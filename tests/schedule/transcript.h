#pragma once
// What a client got, as a text to compare bit for bit; and requests of every kind to get it with.

#include <bit>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/schedule/engine_fixture.h"
#include "tests/schedule/random_guide.h"

namespace sheaf::testing {

inline std::string Bits(const TokenLogprobs& logprobs) {
  std::ostringstream out;
  const auto add = [&](const TokenLogprob& entry) {
    out << entry.token << ":" << std::bit_cast<uint32_t>(entry.logprob) << ":" << entry.rank << " ";
  };
  add(logprobs.chosen);
  for (const TokenLogprob& entry : logprobs.top) add(entry);
  return out.str();
}

// Everything a client sees, as text to compare: what was generated, then what is known of it.
inline std::string Transcript(RecordingSink& sink, bool with_logprobs = true) {
  const GenerationEnd end = sink.WaitForEnd();
  std::ostringstream out;
  out << "end " << int(end.reason) << " " << end.status << " " << end.completion_tokens << " "
      << end.reasoning_tokens << "\n"
      << sink.text() << "\n";
  for (TokenId token : sink.tokens()) out << token << " ";
  out << "forced " << sink.forced() << "\n";
  if (!with_logprobs) return out.str();
  for (const TokenLogprobs& entry : sink.logprobs()) out << Bits(entry) << "\n";
  if (sink.prompt_logprobs().has_value()) {
    for (const auto& entry : *sink.prompt_logprobs())
      out << (entry.has_value() ? Bits(*entry) : "none") << "\n";
  }
  return out.str();
}

inline std::vector<GenerationRequest> MixedRequests(std::mt19937_64& random, int count) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < count; ++i) {
    GenerationRequest request = RandomRequest(random, 1 + random() % 60, 12 + random() % 30);
    if (i % 3 == 0) request.sampling.temperature = 0;
    if (i % 3 == 1) request.sampling.top_p = 0.9f;
    if (i % 4 == 0) request.sampling.repetition_penalty = 1.2f;
    if (i % 5 != 0) request.logprobs = static_cast<int>(random() % 4);
    if (i % 6 == 0) request.prompt_logprobs = 2;
    if (i == 7) request.logprobs = -1;
    if (i % 7 == 0) request.stop.ignore_eos = false;
    if (i % 3 != 2) request.guide = RandomPlan(random);
    if (i % 8 == 1) request.bad_words = {{'a'}, {'b', 'c'}};
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace sheaf::testing
