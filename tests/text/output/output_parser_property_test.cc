// Random outputs, however they are cut, give the events that the slow reference gives.

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/text/output/complete_json.h"
#include "tests/text/output/parsed_output.h"
#include "tests/text/output/random_output.h"
#include "tests/text/output/reference_parser.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::Chooser;
using testing::JoinEvents;
using testing::ReferenceParser;
using testing::Script;
using testing::ScriptPiece;
using testing::Show;

std::string ShowScript(const Script& script) {
  std::string shown;
  for (const ScriptPiece& piece : script) {
    shown += piece.tag ? piece.text : "{" + piece.text + "}";
  }
  return shown;
}

// The same output in random pieces, neighbouring texts sometimes in one, as several tokens a step
// give it.
Script Recut(const Script& script, std::mt19937_64& random) {
  Script recut;
  for (const ScriptPiece& piece : script) {
    if (piece.tag) {
      recut.push_back(piece);
      continue;
    }
    std::string_view text = piece.text;
    if (!recut.empty() && !recut.back().tag && random() % 2 == 0) {
      recut.back().text += text;
      continue;
    }
    while (!text.empty()) {
      const size_t size = std::min<size_t>(1 + random() % 4, text.size());
      recut.push_back({std::nullopt, std::string(text.substr(0, size))});
      text.remove_prefix(size);
    }
  }
  return recut;
}

TEST(OutputParserPropertyTest, AnySplitGivesWhatTheReferenceGives) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const Chooser choose = [&random](uint32_t bound) {
    return static_cast<uint32_t>(random() % bound);
  };
  int num_calls = 0;
  int num_undeclared = 0;
  int num_open = 0;
  for (int round = 0; round < 20'000; ++round) {
    const OutputParserOptions options = testing::RandomOptions(choose);
    const Script script = testing::RandomScript(choose);
    const OutputStop stop = static_cast<OutputStop>(choose(3));
    const ReferenceParser::Result want = ReferenceParser(options).Parse(script, stop);
    num_calls += want.num_calls;
    num_undeclared += want.num_undeclared;
    num_open += want.call_open;
    for (int cut = 0; cut < 4; ++cut) {
      OutputParser parser(options);
      std::vector<OutputEvent> events;
      std::vector<OutputEvent> step;
      for (const ScriptPiece& piece : cut == 0 ? script : Recut(script, random)) {
        step.clear();
        testing::PushScript(parser, options.format.tags, {piece}, cut == 1 ? 1 : 0, step);
        events.insert(events.end(), step.begin(), step.end());
      }
      parser.Finish(stop, events);
      ASSERT_EQ(Show(JoinEvents(events)), Show(want.events)) << ShowScript(script);
      ASSERT_EQ(parser.num_calls(), want.num_calls) << ShowScript(script);
      ASSERT_EQ(parser.undeclared_calls(), want.num_undeclared) << ShowScript(script);
      ASSERT_EQ(parser.call_open(), want.call_open) << ShowScript(script);
      ASSERT_EQ(parser.in_thoughts(), want.in_thoughts) << ShowScript(script);
    }
    for (const OutputEvent& event : want.events) {
      const auto* arguments = std::get_if<CallArguments>(&event);
      if (arguments == nullptr || (want.call_open && &event == &want.events.back())) continue;
      ASSERT_TRUE(testing::ParseCompletely(arguments->json).is_object()) << arguments->json;
    }
  }
  // The generator reaches what it is meant to reach.
  EXPECT_GT(num_calls, 1000);
  EXPECT_GT(num_undeclared, 1000);
  EXPECT_GT(num_open, 1000);
}

}  // namespace
}  // namespace sheaf
