// Grammars that are wrong, contradict themselves, or are hard on purpose: each ends as an error
// that names its place, within a bounded time and memory, or it works.

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/grammar/grammar_harness.h"

namespace sheaf {
namespace {

using testing::GrammarHarness;
using ::testing::HasSubstr;
using testing::Spec;

// Time and memory are then the sanitizer's.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

std::string Repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

std::string Listed(int n, const std::function<std::string(int)>& part) {
  std::string text;
  for (int i = 0; i < n; ++i) {
    if (i > 0) text += ',';
    text += part(i);
  }
  return text;
}

struct Case {
  const char* name;
  GrammarKind kind;
  std::string text;
  const char* named;  // in the message
};

GrammarSpec ManyTools(int num_tools, int num_parameters) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kToolCalls;
  for (int i = 0; i < num_tools; ++i) {
    const std::string properties = Listed(num_parameters, [&](int j) {
      return absl::StrFormat(R"("p%d_%d":{"type":%s,"minimum":%d})", i, j,
                             j % 2 ? R"("integer")" : R"(["string","null"])", i % 10);
    });
    spec.tool_calls.tools.push_back(
        {absl::StrFormat("tool_%d", i),
         absl::StrFormat(R"({"type":"object","properties":{%s}})", properties), true});
  }
  return spec;
}

std::vector<Case> WrongGrammars() {
  const auto schema = [](const char* name, std::string text, const char* named) {
    return Case{name, GrammarKind::kJsonSchema, std::move(text), named};
  };
  return {
      schema("not JSON", "{\"type\":", "JSON schema not valid JSON"),
      schema("text behind a NUL", std::string("{}\0{", 4),
             "JSON schema not valid JSON: a NUL byte"),
      schema("not a schema", "[1]", "$: a schema is an object or a boolean"),
      schema("remote", R"({"properties":{"a":{"$ref":"https://example.com/a.json"}}})",
             "$.properties.a.$ref: \"https://example.com/a.json\" is another document"),
      schema("unresolved", R"({"items":{"$ref":"#/$defs/a"}})",
             "$.items.$ref: \"#/$defs/a\" is not"),
      schema("recursion", R"({"$ref":"#"})", "$.$ref: no value is possible: it refers to itself"),
      schema("required recursion",
             R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
             "$.properties.a.$ref: no value is possible"),
      schema("mutual recursion",
             R"({"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},
                 "b":{"anyOf":[{"$ref":"#/$defs/a"}]}}})",
             "no value is possible: it refers to itself"),
      schema("false", "false", "$: no value is possible"),
      schema("required false", R"({"type":"object","properties":{"a":false},"required":["a"]})",
             "no value is possible"),
      schema("bounds", R"({"properties":{"a":{"type":"integer","minimum":5,"maximum":4}}})",
             "$.properties.a: no value is possible: minimum is 5, maximum is 4"),
      schema("integers", R"({"type":"integer","exclusiveMinimum":4,"exclusiveMaximum":5})",
             "JSON schema $: Unsatisfiable"),
      schema("types", R"({"allOf":[{"type":"integer"},{"type":"string"}]})", "JSON schema"),
      schema("enum type", R"({"type":"integer","enum":["a"]})", "$: no value is possible"),
      schema("missing", R"({"type":"object","required":["a"],"additionalProperties":false})",
             "$: no value is possible: \"a\" is required"),
      schema("pattern and length", R"({"type":"string","pattern":"^aaa$","maxLength":2})",
             "JSON schema"),
      schema(
          "inner pattern and length",
          R"({"type":"object","properties":{"a":{"type":"string","pattern":"^aaa$","maxLength":2}},
                 "required":["a"]})",
          "JSON schema $.properties.a: Unsatisfiable"),
      schema("items", R"({"type":"array","minItems":1,"items":{"$ref":"#/$defs/x"},
                          "$defs":{"x":{"type":"integer","exclusiveMinimum":4,"exclusiveMaximum":5}}})",
             "JSON schema $.items: Unsatisfiable"),
      schema("minItems", R"({"type":"array","minItems":1000000000})",
             "$.minItems: 1000000000 is beyond the limit"),
      schema("maxItems", R"({"properties":{"a":{"maxItems":1000000000}}})",
             "$.properties.a.maxItems"),
      schema("minLength", R"({"type":"string","minLength":1000000000})", "$.minLength"),
      schema("minProperties", R"({"type":"object","minProperties":1000000})", "$.minProperties"),
      schema("free keys", R"({"properties":{"a":{"minProperties":3,"required":["x"]}}})",
             "$.properties.a.minProperties: 3 is not supported where 1 are required"),
      schema("negative", R"({"maxItems":-1})", "$.maxItems: must be an integer, 0 or more"),
      schema("look-around", R"~({"type":"string","pattern":"a(?=b)"})~", "$.pattern: look-around"),
      schema("look-behind", R"({"type":"string","pattern":"(?<!b)a"})", "$.pattern: look-around"),
      schema("back reference", R"~({"type":"string","pattern":"(a)\\1"})~",
             "$.pattern: backreferences"),
      schema("repeat", R"({"type":"string","pattern":"a{1000000}"})", "$.pattern: a repeat count"),
      schema("inner anchor", R"({"type":"string","pattern":"a^b"})", "$.pattern: an anchor"),
      schema("word boundary", R"({"type":"string","pattern":"\\bab"})",
             "$.pattern: word boundaries"),
      schema("pattern key", R"({"patternProperties":{"[":{}}})", "$.patternProperties.["),
      schema("keyword", R"({"not":{"type":"null"}})", "$.not: the keyword is not supported"),
      schema("condition", R"({"items":{"if":{},"then":{}}})", "$.items.if"),
      schema("unique", R"({"type":"array","uniqueItems":true})", "$.uniqueItems"),
      schema("typing mistake", R"({"type":"string","minLenght":2})", "$.minLenght: the keyword"),
      schema("options", R"({"type":"object","x-guidance":{"lenient":true}})", "$.x-guidance"),
      schema("nullable", R"({"type":"string","nullable":true})", "$.nullable"),
      schema("format", R"({"type":"string","format":"iri"})", "$.format: the format \"iri\""),
      schema("type", R"({"type":"text"})", "$.type: \"text\" is no type"),
      schema("oneOf", R"({"oneOf":[{"type":"integer"},{"type":"number"}]})",
             "$.oneOf: alternatives 0 and 1 may both fit"),
      schema("empty anyOf", R"({"anyOf":[]})", "$.anyOf: must not be empty"),
      schema("deep", Repeated("{\"items\":", 100) + "{}" + Repeated("}", 100), "64 levels"),
      schema("large", std::string("{\"title\":\"") + std::string(2 << 20, 'a') + "\"}",
             "2097164 bytes"),
      schema("broken text", "{\"const\":\"\xC3\"}", "JSON schema not valid JSON"),
      {"regex", GrammarKind::kRegex, "a(", "regex: unclosed group, near byte 1"},
      {"regex look-around", GrammarKind::kRegex, "(?!a)b", "regex: look-around"},
      {"regex repeat", GrammarKind::kRegex, "a{1000000}", "regex: a repeat count of 1000000"},
      {"regex nothing", GrammarKind::kRegex, "[^\\x{0}-\\x{10FFFF}]", "regex"},
      {"regex text", GrammarKind::kRegex, "\xFF", "regex"},
      {"choice", GrammarKind::kChoice, R"({"a":1})", "choice: must be a list"},
      {"empty choice", GrammarKind::kChoice, "[]", "choice: must be a list"},
      {"choice type", GrammarKind::kChoice, R"(["a",1])", "choice[1]: must be a string"},
      {"long choice", GrammarKind::kChoice,
       std::string("[") + Listed(10'001, [](int i) { return absl::StrFormat("\"%d\"", i); }) + "]",
       "choice: 10001 strings, more than the limit of 10000"},
      {"GBNF", GrammarKind::kLark, "root ::= \"a\"", "Lark"},
      {"Lark", GrammarKind::kLark, "start: \"a\" )", "grammar: "},
      {"Lark rule", GrammarKind::kLark, "start: a", "grammar: "},
      {"Lark without start", GrammarKind::kLark, "a: \"a\"", "no start rule"},
      {"Lark schema", GrammarKind::kLark, "start: %json {\"not\":{}}", "not"},
      {"empty Lark", GrammarKind::kLark, "", "grammar: "},
  };
}

std::vector<Case> HostileGrammars() {
  const std::string chain = Listed(2'000, [](int i) {
    return absl::StrFormat(R"("d%d":{"type":"array","items":{"$ref":"#/$defs/d%d"}})", i, i + 1);
  });
  std::string rules = "start: a0\n";
  for (int i = 0; i < 4'000; ++i) rules += absl::StrFormat("a%d: a%d\n", i, i + 1);
  std::string doubling = "start: a0\n";
  for (int i = 0; i < 60; ++i) doubling += absl::StrFormat("a%d: a%d a%d\n", i, i + 1, i + 1);
  std::string terminals = "start: A0\n";
  for (int i = 0; i < 60; ++i) terminals += absl::StrFormat("A%d: A%d A%d\n", i, i + 1, i + 1);
  std::string nested = "start: \"a\"";
  for (int i = 0; i < 300; ++i) {
    nested += absl::StrFormat(" | %%lark { start: \"a\" \"b\"\n%%ignore /c%d/\n}", i);
  }
  return {
      {"repeat of repeat", GrammarKind::kRegex, "((a|b){1000}){1000}", ""},
      {"repeats of a literal", GrammarKind::kRegex, "((a{1000}){1000}){1000}", ""},
      {"a long literal", GrammarKind::kRegex, "a{24000}b{24000}", ""},
      {"repeats of a literal in Lark", GrammarKind::kLark, "start: /((a{1000}){1000}){1000}/", ""},
      {"repeats of a terminal in Lark", GrammarKind::kLark,
       "start: A\nA: B{1000}\nB: C{1000}\nC: \"x\"{1000}", ""},
      {"a repeated text in Lark", GrammarKind::kLark,
       "start: A{40000}\nA: \"" + Repeated("x", 60'000) + "\"", ""},
      {"repeats of a rule in Lark", GrammarKind::kLark,
       "start: a{1000}\na: b{1000}\nb: \"x\"{1000}", ""},
      {"a long const", GrammarKind::kJsonSchema, "{\"const\":\"" + Repeated("x", 45'000) + "\"}",
       ""},
      {"a longer const", GrammarKind::kJsonSchema, "{\"const\":\"" + Repeated("x", 900'000) + "\"}",
       ""},
      {"equal items", GrammarKind::kJsonSchema,
       R"({"type":"array","items":{"const":")" + Repeated("x", 100) + R"("},"minItems":10000})",
       ""},
      {"null items", GrammarKind::kJsonSchema,
       R"({"type":"array","items":{"type":"null"},"minItems":10000})", ""},
      {"a long choice", GrammarKind::kChoice, "[\"" + Repeated("x", 900'000) + "\"]", ""},
      {"three repeats", GrammarKind::kRegex, "(((a|b|ab){1,900}){1,900}){1,900}", ""},
      {"states", GrammarKind::kRegex, "(a|b)*a(a|b){60}", ""},
      {"many states", GrammarKind::kRegex, "(.*a.{40}){20}", ""},
      {"alternatives", GrammarKind::kRegex,
       std::string("(") + Repeated("a*|b*|(ab)*|", 2'000) + "c)*", ""},
      {"classes", GrammarKind::kRegex, Repeated("\\p{L}\\p{N}", 1'000), ""},
      {"parentheses", GrammarKind::kRegex, Repeated("(", 5'000) + Repeated(")", 5'000), ""},
      {"pattern states", GrammarKind::kJsonSchema,
       R"({"type":"string","pattern":"(.*a.{40}){20}"})", ""},
      {"pattern repeat", GrammarKind::kJsonSchema,
       R"({"type":"string","pattern":"^(([a-z]{1,999}[0-9]){1,999}x){1,999}$"})", ""},
      {"length", GrammarKind::kJsonSchema,
       R"({"type":"string","minLength":90000,"maxLength":100000})", ""},
      {"items", GrammarKind::kJsonSchema,
       R"({"type":"array","items":{"type":"integer"},"minItems":9000,"maxItems":10000})", ""},
      {"items of items", GrammarKind::kJsonSchema,
       R"({"type":"array","minItems":9000,"items":{"type":"array","minItems":9000,
           "items":{"type":"array","minItems":9000,"items":{"type":"integer"}}}})",
       ""},
      {"properties count", GrammarKind::kJsonSchema,
       R"({"type":"object","minProperties":900,"maxProperties":1000})", ""},
      {"a thousand alternatives", GrammarKind::kJsonSchema,
       std::string("{\"anyOf\":[") +
           Listed(1'000,
                  [](int i) {
                    return absl::StrFormat(
                        R"({"properties":{"p%d":{"type":"integer"}},"required":["p%d"]})", i, i);
                  }) +
           "]}",
       ""},
      {"ten thousand alternatives", GrammarKind::kJsonSchema,
       std::string("{\"anyOf\":[") +
           Listed(10'000,
                  [](int i) {
                    return absl::StrFormat(
                        R"({"properties":{"p%d":{"type":"integer"}},"required":["p%d"]})", i, i);
                  }) +
           "]}",
       ""},
      {"ten thousand values", GrammarKind::kJsonSchema,
       std::string("{\"enum\":[") +
           Listed(10'000, [](int i) { return absl::StrFormat("\"v%d\"", i); }) + "]}",
       ""},
      {"a thousand properties", GrammarKind::kJsonSchema,
       std::string("{\"type\":\"object\",\"properties\":{") +
           Listed(1'000,
                  [](int i) { return absl::StrFormat("\"p%d\":{\"type\":\"string\"}", i); }) +
           "}}",
       ""},
      {"thousands of objects", GrammarKind::kJsonSchema,
       std::string("{\"type\":\"object\",\"properties\":{") +
           Listed(40,
                  [](int i) {
                    return absl::StrFormat(
                        "\"p%d\":{\"type\":\"object\",\"properties\":{%s}}", i,
                        Listed(500, [](int j) { return absl::StrFormat("\"q%d\":{}", j); }));
                  }) +
           "}}",
       ""},
      {"ten thousand properties", GrammarKind::kJsonSchema,
       std::string("{\"type\":\"object\",\"properties\":{") +
           Listed(10'000,
                  [](int i) { return absl::StrFormat("\"p%d\":{\"type\":\"string\"}", i); }) +
           "}}",
       ""},
      {"unknown members", GrammarKind::kJsonSchema,
       std::string("{\"title\":{") +
           Listed(90'000, [](int i) { return absl::StrFormat("\"p%d\":0", i); }) + "}}",
       ""},
      {"all of alternatives", GrammarKind::kJsonSchema,
       std::string("{\"allOf\":[") +
           Listed(24,
                  [](int i) {
                    return absl::StrFormat(
                        R"({"anyOf":[{"type":"string","minLength":%d},{"type":"integer"},
                                   {"type":"array","minItems":%d}]})",
                        i, i);
                  }) +
           "]}",
       ""},
      {"chain of references", GrammarKind::kJsonSchema,
       std::string(R"({"$ref":"#/$defs/d0","$defs":{)") + chain + R"(,"d2000":{"type":"null"}}})",
       ""},
      {"fan of references", GrammarKind::kJsonSchema,
       std::string(R"({"$ref":"#/$defs/d0","$defs":{)") +
           Listed(30,
                  [](int i) {
                    return absl::StrFormat(
                        R"("d%d":{"type":"array","prefixItems":[{"$ref":"#/$defs/d%d"},
                                   {"$ref":"#/$defs/d%d"}]})",
                        i, i + 1, i + 1);
                  }) +
           R"(,"d30":{"type":"null"}}})",
       ""},
      {"intersected references", GrammarKind::kJsonSchema,
       std::string(R"({"$ref":"#/$defs/d0","$defs":{)") +
           Listed(30,
                  [](int i) {
                    return absl::StrFormat(
                        R"("d%d":{"allOf":[{"properties":{"a":{"$ref":"#/$defs/d%d"}}},
                                   {"properties":{"a":{"$ref":"#/$defs/d%d"}}}]})",
                        i, i + 1, i + 1);
                  }) +
           R"(,"d30":{"type":"null"}}})",
       ""},
      {"pattern properties", GrammarKind::kJsonSchema,
       std::string("{\"patternProperties\":{") +
           Listed(200, [](int i) { return absl::StrFormat("\"^a%d[a-z]*(x|y){5,50}$\":{}", i); }) +
           "}}",
       ""},
      {"choice", GrammarKind::kChoice,
       std::string("[") +
           Listed(10'000, [](int i) { return absl::StrFormat("\"choice number %d\"", i * 7919); }) +
           "]",
       ""},
      {"long choices", GrammarKind::kChoice,
       std::string("[") +
           Listed(
               1'000,
               [](int i) { return absl::StrFormat("\"%s%d\"", Repeated("abcdefghij", 90), i); }) +
           "]",
       ""},
      {"rules", GrammarKind::kLark, rules + "a4000: \"x\"\n", ""},
      {"doubling rules", GrammarKind::kLark, doubling + "a60: \"x\"\n", ""},
      {"doubling terminals", GrammarKind::kLark, terminals + "A60: \"x\"\n", ""},
      {"ambiguous", GrammarKind::kLark, "start: s\ns: s s | \"a\" | s s s | \"\"", ""},
      {"nested Lark", GrammarKind::kLark, nested, ""},
      {"rule repeat", GrammarKind::kLark, "start: a{100000}\na: b{100000}\nb: \"x\" | \"y\"", ""},
      {"terminal repeat", GrammarKind::kLark, "start: A\nA: /((a|b){1000}){1000}/{1000}", ""},
      {"Lark look-around", GrammarKind::kLark, "start: /a(?=b)/", ""},
  };
}

TEST(BadGrammarsTest, ErrorsNameThePlace) {
  const GrammarHarness harness;
  for (const Case& c : WrongGrammars()) {
    const auto compiled = harness.compiler().Compile(Spec(c.kind, c.text));
    EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument)
        << c.name << ": " << compiled.status().ToString();
    EXPECT_THAT(std::string(compiled.status().message()), HasSubstr(c.named)) << c.name;
    EXPECT_LT(compiled.status().message().size(), 2'000u) << c.name;
  }
}

// High-water mark of the process's memory since the last call, in MiB; 0 where the system does not
// tell.
double PeakMiB() {
  std::ifstream status("/proc/self/status");
  std::string line;
  double peak = 0;
  while (std::getline(status, line)) {
    if (line.starts_with("VmHWM:")) peak = std::atof(line.c_str() + 6) / 1024;
  }
  std::ofstream("/proc/self/clear_refs") << "5";
  return peak;
}

TEST(BadGrammarsTest, HostileGrammarsAreCheap) {
  const GrammarHarness harness;
  std::mt19937_64 random(1);
  std::vector<std::pair<std::string, GrammarSpec>> specs;
  for (const Case& c : HostileGrammars()) specs.emplace_back(c.name, Spec(c.kind, c.text));
  specs.emplace_back("a thousand tools", ManyTools(1'000, 4));
  specs.emplace_back("a tool's thousand", ManyTools(1, 1'000));
  specs.emplace_back("a thousand tools' thirty", ManyTools(1'000, 30));
  for (const auto& [name, spec] : specs) {
    PeakMiB();
    const double before = PeakMiB();
    // The process's own time: other work on the machine does not count.
    const std::clock_t begin = std::clock();
    const auto compiled = harness.compiler().Compile(spec);
    const double compile_s = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    double worst_step_s = 0;
    std::string end = compiled.status().ToString().substr(0, 100);
    if (compiled.ok()) {
      GrammarMatcher matcher(*compiled);
      std::vector<uint32_t> mask(matcher.MaskWords());
      int step = 0;
      for (; step < 300 && !matcher.finished(); ++step) {
        const std::clock_t step_begin = std::clock();
        absl::Status status = matcher.ComputeMask(mask);
        std::vector<TokenId> allowed;
        for (TokenId id = 0; id < static_cast<TokenId>(mask.size() * 32); ++id) {
          if (testing::IsAllowed(mask, id)) allowed.push_back(id);
        }
        if (status.ok() && !allowed.empty())
          status = matcher.Accept(allowed[random() % allowed.size()]);
        worst_step_s =
            std::max(worst_step_s, static_cast<double>(std::clock() - step_begin) / CLOCKS_PER_SEC);
        if (!status.ok()) {
          end = status.ToString().substr(0, 100);
          EXPECT_NE(status.code(), absl::StatusCode::kInternal) << name << ": " << status;
          break;
        }
      }
      end += absl::StrFormat(" after %d", step);
    } else {
      EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument) << name;
    }
    const double grown = PeakMiB() - before;
    std::printf("%-26s %7.1f ms  %5.1f MiB  worst step %6.2f ms  %s\n", name.c_str(),
                compile_s * 1e3, grown, worst_step_s * 1e3, end.c_str());
    if (kIsSanitized) continue;
    EXPECT_LT(compile_s, 1.0) << name;
    EXPECT_LT(grown, 64) << name;
  }
}

}  // namespace
}  // namespace sheaf
