// Random tokens under the mask, through random schemas, tool calls and more: what comes out is what
// was asked for, and the parts of the interface agree with each other at every step.

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/text/grammar/grammar_harness.h"
#include "tests/text/grammar/random_schema.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::GrammarHarness;
using testing::IsAllowed;
using testing::RandomSchemas;
using testing::Spec;

constexpr int kMaxSteps = 3'000;

// Valid JSON, but beyond a double: only random tokens write such.
bool HasHugeNumber(const std::string& text) {
  size_t digits = 0;
  bool exponent = false;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      if (++digits > (exponent ? 2u : 300u)) return true;
    } else if (digits > 0 && (c == 'e' || c == 'E')) {
      exponent = true;
      digits = 0;
    } else if (!exponent || (c != '+' && c != '-')) {
      exponent = false;
      digits = 0;
    }
  }
  return false;
}

class Walker {
 public:
  Walker(const GrammarHarness& harness, uint64_t seed) : harness_(harness), random_(seed) {}

  // The text of a random walk to the grammar's end; empty when there is none within kMaxSteps.
  std::string Walk(const GrammarSpec& spec) {
    GrammarMatcher matcher = harness_.Matcher(spec);
    std::vector<uint32_t> mask(matcher.MaskWords());
    std::string text;
    for (int step = 0; step < kMaxSteps; ++step) {
      if (matcher.finished() || (matcher.accepting() && random_() % 4 == 0)) return text;
      if (random_() % 8 == 0) {
        TakeForced(matcher, text);
        if (matcher.finished()) return text;
      }
      const absl::Status status = matcher.ComputeMask(mask);
      EXPECT_TRUE(status.ok()) << status << " after " << text;
      if (!status.ok()) return "";
      const TokenId token = Choose(mask);
      if (token < 0) {
        EXPECT_TRUE(matcher.accepting()) << text;
        EXPECT_TRUE(matcher.finished()) << text;
        return text;
      }
      if (random_() % 16 == 0) CheckClone(matcher, mask);
      const absl::Status accepted = matcher.Accept(token);
      EXPECT_TRUE(accepted.ok()) << accepted << " after " << text;
      if (!accepted.ok()) return "";
      text += harness_.tokenizer().TokenBytes(token);
    }
    return "";
  }

 private:
  // Tokens that close something more often than others: a walk must come to an end.
  TokenId Choose(const std::vector<uint32_t>& mask) {
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < static_cast<TokenId>(mask.size() * 32); ++id) {
      if (IsAllowed(mask, id)) allowed.push_back(id);
    }
    if (allowed.empty()) return -1;
    if (random_() % 3 == 0) {
      std::vector<TokenId> closing;
      for (const TokenId id : allowed) {
        const std::string_view bytes = harness_.tokenizer().TokenBytes(id);
        if (bytes == "\"" || bytes == "}" || bytes == "]" || bytes.starts_with("</")) {
          closing.push_back(id);
        }
      }
      if (!closing.empty()) allowed = closing;
    }
    return allowed[random_() % allowed.size()];
  }

  // Each forced token is in the mask at its place.
  void TakeForced(GrammarMatcher& matcher, std::string& text) {
    std::vector<uint32_t> mask(matcher.MaskWords());
    for (const TokenId token : matcher.ForcedTokens()) {
      ASSERT_TRUE(matcher.ComputeMask(mask).ok()) << text;
      EXPECT_TRUE(IsAllowed(mask, token)) << token << " after " << text;
      ASSERT_TRUE(matcher.Accept(token).ok()) << text;
      text += harness_.tokenizer().TokenBytes(token);
    }
  }

  // A copy says the same, and what is done with it does not reach the original.
  void CheckClone(GrammarMatcher& matcher, const std::vector<uint32_t>& mask) {
    GrammarMatcher copy = matcher.Clone();
    std::vector<uint32_t> other(mask.size());
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(copy.ComputeMask(other).ok());
      if (i == 0) {
        EXPECT_EQ(other, mask);
      }
      const TokenId token = Choose(other);
      if (token < 0 || !copy.Accept(token).ok()) break;
    }
    ASSERT_TRUE(matcher.ComputeMask(other).ok());
    EXPECT_EQ(other, mask);
    EXPECT_EQ(copy.MaskWords(), matcher.MaskWords());
  }

  const GrammarHarness& harness_;
  std::mt19937_64 random_;
};

TEST(RandomWalkTest, SchemasAreSatisfied) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(::testing::Message() << "SHEAF_TEST_SEED=" << seed);
  const GrammarHarness harness;
  RandomSchemas schemas(seed);
  Walker walker(harness, seed);
  int unfinished = 0;
  int refused = 0;
  for (int i = 0; i < 1'000; ++i) {
    const auto schema = schemas.Pick(4) == 0 ? schemas.Schema(3) : schemas.Object(3);
    GrammarSpec spec = Spec(GrammarKind::kJsonSchema, schema.dump());
    spec.any_whitespace = schemas.Pick(8) == 0;
    const auto compiled = harness.compiler().Compile(spec);
    if (!compiled.ok()) {
      // No multiple of 5 between the bounds, say.
      EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument);
      ++refused;
      continue;
    }
    const std::string text = walker.Walk(spec);
    if (text.empty() || HasHugeNumber(text)) {
      ++unfinished;
      continue;
    }
    const auto value = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    ASSERT_FALSE(value.is_discarded()) << spec.text << "\n" << text;
    EXPECT_TRUE(testing::IsValid(schema, value)) << spec.text << "\n" << text;
  }
  EXPECT_LT(unfinished, 60);
  EXPECT_LT(refused, 20);
}

// The argument text of a call is what its schema says, in both formats.
TEST(RandomWalkTest, ToolCallsAreSatisfied) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(::testing::Message() << "SHEAF_TEST_SEED=" << seed);
  RandomSchemas schemas(seed);
  for (const bool with_tags : {true, false}) {
    const GrammarHarness harness(with_tags);
    Walker walker(harness, seed);
    int unfinished = 0;
    for (int i = 0; i < 200; ++i) {
      // A list: its value is JSON.
      const auto value_schema =
          RandomSchemas::Json{{"type", "array"}, {"items", schemas.Schema(1)}};
      const RandomSchemas::Json parameters = {
          {"type", "object"}, {"properties", {{"v", value_schema}}}, {"required", {"v"}}};
      GrammarSpec spec;
      spec.kind = GrammarKind::kToolCalls;
      spec.tool_calls.format = i % 2 ? ToolCallFormat::kGlm45 : ToolCallFormat::kGlm47;
      spec.tool_calls.max_calls = 1;
      spec.tool_calls.tools = {{"f", parameters.dump(), true}};
      if (!harness.compiler().Compile(spec).ok()) continue;
      const std::string text = walker.Walk(spec);
      if (text.empty() || HasHugeNumber(text)) {
        ++unfinished;
        continue;
      }
      const size_t begin = text.find("<arg_value>") + 11;
      const size_t end = text.rfind("</arg_value>");
      ASSERT_TRUE(begin < end && end != std::string::npos) << text;
      const auto value =
          nlohmann::ordered_json::parse(text.substr(begin, end - begin), nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text;
      EXPECT_TRUE(testing::IsValid(value_schema, value)) << spec.tool_calls.tools[0].name << text;
    }
    EXPECT_LT(unfinished, 30);
  }
}

TEST(RandomWalkTest, TheSameTokensHaveTheSameMasks) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(::testing::Message() << "SHEAF_TEST_SEED=" << seed);
  const GrammarHarness harness;
  const GrammarSpec spec =
      Spec(GrammarKind::kJsonSchema, R"({"type":"array","items":{"type":"string",
      "maxLength":9},"maxItems":20})");
  Walker walker(harness, seed);
  const std::string text = walker.Walk(spec);
  GrammarMatcher warm = harness.Matcher(spec);
  std::vector<uint32_t> mask(warm.MaskWords());
  std::vector<std::vector<uint32_t>> masks;
  for (const char c : text) {
    ASSERT_TRUE(warm.ComputeMask(mask).ok());
    masks.push_back(mask);
    ASSERT_TRUE(warm.Accept(static_cast<unsigned char>(c)).ok());
  }
  // From the beginning once more, and without looking at any mask on the way.
  warm.Reset();
  for (size_t i = 0; i < text.size(); ++i) {
    GrammarMatcher cold = harness.Matcher(spec);
    for (size_t j = 0; j < i; ++j) {
      ASSERT_TRUE(cold.Accept(static_cast<unsigned char>(text[j])).ok());
    }
    ASSERT_TRUE(cold.ComputeMask(mask).ok());
    EXPECT_EQ(mask, masks[i]) << i;
    ASSERT_TRUE(warm.ComputeMask(mask).ok());
    EXPECT_EQ(mask, masks[i]) << i;
    ASSERT_TRUE(warm.Accept(static_cast<unsigned char>(text[i])).ok());
  }
}

}  // namespace
}  // namespace sheaf
