// From a real checkpoint's token ids to events: detokenizer, stop strings, alignment and parser
// together.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "router/text/output/output_parser.h"
#include "router/text/output/token_aligned_text.h"
#include "router/text/text_stream.h"
#include "tests/text/output/aligned_text.h"
#include "tests/text/output/parsed_output.h"
#include "tests/text/output/random_output.h"
#include "tests/text/output/reference_parser.h"
#include "tests/text/output/weather_tools.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::JoinEvents;
using testing::ReferenceParser;
using testing::Script;
using testing::Show;

class RealTokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(SHEAF_SOURCE_DIR "/checkpoints/sheaf-nano-120");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    tags_ = FindOutputTags(*tokenizer_);
  }

  std::vector<TokenId> Encode(const Script& script) {
    std::vector<TokenId> ids;
    for (const testing::ScriptPiece& piece : script) {
      if (piece.tag) {
        ids.push_back(*tags_.InOrder()[static_cast<size_t>(*piece.tag)]);
      } else {
        const auto text = *tokenizer_->Encode(piece.text, /*add_special_tokens=*/false);
        ids.insert(ids.end(), text.begin(), text.end());
      }
    }
    return ids;
  }

  std::string Parse(const std::vector<TokenId>& ids, const OutputParserOptions& options,
                    const std::vector<std::string>& stop, OutputStop how) {
    TextStreamOptions stream_options;
    stream_options.stop = std::make_shared<const StopStrings>(*StopStrings::Create(stop));
    TextStream stream(*tokenizer_, stream_options);
    TokenAlignedText aligned =
        testing::AlignedText(*tokenizer_, tags_, stream_options.skip_special_tokens);
    OutputParser parser(options);
    std::vector<OutputEvent> events;
    std::vector<TextPiece> pieces;
    const auto parse = [&] {
      for (const TextPiece& piece : pieces) parser.Push(piece.tag, piece.text, events);
      pieces.clear();
    };
    for (const TokenId id : ids) {
      const TextDelta delta = stream.Push(id);
      aligned.Push(id, delta.text, delta.text_end, pieces);
      parse();
      if (delta.stop_index) how = OutputStop::kStopString;
    }
    aligned.Finish(stream.Finish().text, pieces);
    parse();
    parser.Finish(how, events);
    return Show(JoinEvents(events));
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  OutputTags tags_;
};

TEST_F(RealTokensTest, TheFormatOfTheTrainedCheckpoint) {
  OutputParserOptions options = testing::Options();
  options.format.tags = tags_;
  // As the template writes it: here the tags in the text become their tokens.
  const std::string output =
      "\n<think>Où? 柏林 "
      "😀</think>\nOK.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>"
      "Zürich 😀</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>";
  const std::string want =
      R"(R(Où? 柏林 😀) C(OK.) [0 get_weather] A({"city":"Zürich 😀","days":3}) [/0])";
  const auto ids = *tokenizer_->Encode(output, false);
  EXPECT_EQ(Parse(ids, options, {}, OutputStop::kStopToken), want);
  EXPECT_EQ(Parse(ids, options, {"</tool_call>\n", "OK.\n<tool_call>x", "<arg_key>days</arg_key>a"},
                  OutputStop::kStopToken),
            want);
  EXPECT_EQ(Parse(ids, options, {"tool_call>get"}, OutputStop::kStopToken),
            "R(Où? 柏林 😀) C(OK.\n<)");
  EXPECT_EQ(Parse(ids, options, {"rich"}, OutputStop::kStopToken),
            R"(R(Où? 柏林 😀) C(OK.) [0 get_weather] A({"city":"Zü))");
}

// Stop strings that never end hold text back, and change nothing.
TEST_F(RealTokensTest, RandomOutputsWhateverIsHeldBack) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const testing::Chooser choose = [&random](uint32_t bound) {
    return static_cast<uint32_t>(random() % bound);
  };
  const std::vector<std::string> never = {"<tool_call>get_weather\n<arg_key>##",
                                          "</arg_value>\n##",
                                          "\n<##",
                                          "null</arg_value></##",
                                          "<think><##",
                                          "a##"};
  for (int round = 0; round < 3'000; ++round) {
    OutputParserOptions options = testing::RandomOptions(choose);
    options.format.tags = tags_;
    const Script script = testing::RandomScript(choose);
    const auto stop = static_cast<OutputStop>(choose(3));
    std::string text;
    for (const testing::ScriptPiece& piece : script) text += piece.text;
    ASSERT_EQ(Parse(Encode(script), options, never, stop),
              Show(ReferenceParser(options).Parse(script, stop).events))
        << text;
  }
}

}  // namespace
}  // namespace sheaf
