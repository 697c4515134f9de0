// The expressions of quantization configs, as Python reads them and with bounded time and memory;
// and which entry of a config speaks for a module.

#include "model/quantization/module_overrides.h"

#include <gtest/gtest.h>

#include <string>

#include "model/quantization/required_literal.h"

namespace sheaf {
namespace {

bool Matches(const std::string& expression, std::string_view text) {
  const auto regex = ModuleRegex::Compile(expression);
  EXPECT_TRUE(regex.ok()) << expression;
  return regex.ok() && regex->Matches(text);
}

bool Searches(const std::string& expression, std::string_view text) {
  const auto regex = ModuleRegex::Compile(expression);
  EXPECT_TRUE(regex.ok()) << expression;
  return regex.ok() && regex->Searches(text);
}

TEST(ModuleRegex, ReadsPythonsSpelling) {
  const std::string module = "model.layers.12.mlp.experts.7.gate_proj";
  EXPECT_TRUE(Matches(".*experts\\.\\d+\\.gate_proj$", module));
  EXPECT_TRUE(Matches("model\\.layers\\.(1[0-9]|2\\d)\\.", module));
  EXPECT_FALSE(Matches("model\\.layers\\.(2\\d)\\.", module));
  EXPECT_FALSE(Matches("experts", module)) << "re.match begins at the start";
  EXPECT_TRUE(Searches("experts", module));
  EXPECT_TRUE(Searches("(?:mlp|attn)\\.experts", module));
  EXPECT_TRUE(Matches("(?P<layer>model\\.layers\\.\\d{1,2})\\.mlp", module));
  EXPECT_FALSE(Matches("model\\.layers\\.\\d{3}", module));
  EXPECT_TRUE(Searches("gate_proj\\Z", module));
  EXPECT_FALSE(Searches("gate\\b", module));
  EXPECT_TRUE(Searches("\\bmlp\\b", module));
  EXPECT_TRUE(Searches("[^.]+_proj", module));
  EXPECT_TRUE(Searches("[\\w.]*7[.]gate", module));
  EXPECT_TRUE(Matches("(a|b)*?c+", "ababcc"));
  EXPECT_TRUE(Matches("a{b", "a{b")) << "a brace that counts nothing";
  EXPECT_TRUE(Matches("", module));
}

TEST(ModuleRegex, LooksAhead) {
  EXPECT_TRUE(Matches("^(?!.*shared_experts).*mlp", "model.layers.3.mlp.experts.0.up_proj"));
  EXPECT_FALSE(Matches("^(?!.*shared_experts).*mlp", "model.layers.3.mlp.shared_experts.up_proj"));
  EXPECT_TRUE(Matches("(?=.*down)model", "model.down"));
  EXPECT_FALSE(Matches("(?=.*down)model", "model.up"));
}

TEST(ModuleRegex, RefusesWhatCannotBeReadWithTheReason) {
  for (const char* expression : {"(", ")", "[a", "*a", "(?<=a*)b", "\\", "a{3,2}"}) {
    EXPECT_EQ(ModuleRegex::Compile(expression).status().code(), absl::StatusCode::kInvalidArgument)
        << expression;
  }
  EXPECT_EQ(ModuleRegex::Compile("(ab").status().message(),
            "missing closing parenthesis (at byte 3)");
  EXPECT_FALSE(ModuleRegex::Compile(std::string(5000, '(')).ok());
  EXPECT_FALSE(ModuleRegex::Compile(std::string(ModuleRegex::kMaxExpressionBytes + 1, 'a')).ok());
}

TEST(ModuleRegex, NestedRepeatsTakeNoMemoryAndNoTime) {
  for (const char* expression :
       {"((((a{1,250}){1,250}){1,250}){1,250}){1,250}", "((a{1000}){1000}){1000}"}) {
    EXPECT_FALSE(ModuleRegex::Compile(expression).ok()) << expression;
  }
  // Given up after a bounded number of steps, which is no match; one that is found sooner is one.
  const auto slow = ModuleRegex::Compile("(a*)*(a|aa)+(a+)+$");
  ASSERT_TRUE(slow.ok());
  EXPECT_FALSE(slow->Matches(std::string(200, 'a') + "b"));
  EXPECT_TRUE(slow->Matches(std::string(200, 'a')));
}

TEST(ModuleRegex, ALiteralPieceThatEveryMatchContainsIsFound) {
  EXPECT_EQ(RequiredLiteral(".*model\\.layers\\.1\\.mlp\\.gate.*"), "model.layers.1.mlp.gate");
  EXPECT_EQ(RequiredLiteral("a|b"), "");
  EXPECT_EQ(RequiredLiteral("(?i)GATE"), "") << "flags change what letters mean";
  EXPECT_EQ(RequiredLiteral("\\x41bc"), "");
  EXPECT_EQ(RequiredLiteral("ab?cde{2}f"), "cd");
  EXPECT_EQ(RequiredLiteral("[]x]yz"), "yz");
  EXPECT_EQ(RequiredLiteral("(optional)*up_proj"), "up_proj");
}

ModuleHints Bits(int bits) {
  ModuleHints hints;
  hints.bits = bits;
  return hints;
}

int BitsOf(const ModuleOverrides& overrides, std::string_view module) {
  const ModuleHints* const found = overrides.Find(module);
  return found == nullptr ? 0 : found->bits;
}

TEST(ModuleOverrides, NamesThenEndsOfNamesThenExpressionsInOrderThenTheRest) {
  ModuleOverrides overrides;
  (void)overrides.AddExpression(".*k_proj", ModuleOverrides::Anchor::kStart, Bits(1));
  (void)overrides.AddExpression("proj", ModuleOverrides::Anchor::kAnywhere, Bits(2));
  (void)overrides.AddExpression("proj", ModuleOverrides::Anchor::kStart, Bits(9));
  overrides.AddName("self_attn.v_proj", Bits(3));
  overrides.AddName("v_proj", Bits(4));
  overrides.AddName("layers.0.self_attn.v_proj", Bits(5));
  EXPECT_EQ(BitsOf(overrides, "layers.0.self_attn.v_proj"), 5);
  EXPECT_EQ(BitsOf(overrides, "layers.1.self_attn.v_proj"), 3);
  EXPECT_EQ(BitsOf(overrides, "layers.1.cross.v_proj"), 4);
  EXPECT_EQ(BitsOf(overrides, "layers.1.xv_proj"), 2) << "a name ends at a dot";
  EXPECT_EQ(BitsOf(overrides, "layers.1.k_proj"), 1);
  EXPECT_EQ(BitsOf(overrides, "layers.1.gate"), 0);
  overrides.AddRest(Bits(6));
  EXPECT_EQ(BitsOf(overrides, "layers.1.gate"), 6);
}

}  // namespace
}  // namespace sheaf
