// What a model generates is anything at all: no output may crash the parser, depend on where it was
// cut, or end a call with arguments that are not JSON.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/text/output/complete_json.h"
#include "tests/text/output/parsed_output.h"
#include "tests/text/output/random_output.h"

namespace {

using sheaf::OutputEvent;

void Require(bool condition, const char* what, const std::string& events) {
  if (condition) return;
  std::fprintf(stderr, "%s: %s\n", what, events.c_str());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  size_t at = 0;
  const sheaf::testing::Chooser choose = [&](uint32_t bound) {
    return at < size ? data[at++] % bound : 0u;
  };
  const sheaf::OutputParserOptions options = sheaf::testing::RandomOptions(choose);
  const auto stop = static_cast<sheaf::OutputStop>(choose(3));
  sheaf::testing::Script script;
  size_t script_bytes = 0;
  while (at < size && script.size() < 400) {
    for (const auto& piece : sheaf::testing::RandomScript(choose)) {
      script.push_back(piece);
      script_bytes += piece.text.size();
    }
  }

  std::vector<OutputEvent> first;
  int num_calls = 0;
  for (const size_t piece_bytes : {0, 1, 3}) {
    sheaf::OutputParser parser(options);
    std::vector<OutputEvent> events;
    sheaf::testing::PushScript(parser, options.format.tags, script, piece_bytes, events);
    parser.Finish(stop, events);
    events = sheaf::testing::JoinEvents(events);
    num_calls = parser.num_calls();
    if (piece_bytes == 0) first = events;
    Require(events == first, "another cut, other events", sheaf::testing::Show(events));
  }
  const std::string shown = sheaf::testing::Show(first);
  // An escape takes six bytes at most, an event's frame in Show fewer than its tags do.
  Require(shown.size() <= 6 * script_bytes + 64, "more came out than went in", shown);
  int num_ends = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    if (!std::holds_alternative<sheaf::CallEnd>(first[i])) continue;
    ++num_ends;
    Require(i >= 2, "an end without a call", shown);
    const auto* arguments = std::get_if<sheaf::CallArguments>(&first[i - 1]);
    Require(arguments != nullptr, "a call without arguments", shown);
    Require(sheaf::testing::ParseCompletely(arguments->json).is_object(),
            "arguments are not an object", shown);
  }
  Require(num_ends == num_calls, "calls are miscounted", shown);
  return 0;
}
