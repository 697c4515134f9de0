#include "router/text/output/declared_tools.h"

#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

// The types of parameter `name` as letters: n i f b o a s ("f": any number).
std::string Types(const std::string& schema, const std::string& name) {
  const auto parameters = ReadParameterTypes(schema);
  if (!parameters.ok()) return std::string(parameters.status().message());
  const JsonTypes types = parameters->Of(name);
  std::string letters;
  constexpr char kLetters[] = "nifboas";
  for (int i = 0; i < 7; ++i) {
    if (types.Has(static_cast<JsonType>(i))) letters.push_back(kLetters[i]);
  }
  return letters;
}

// Of parameter "p" with this schema.
std::string TypesOf(const std::string& property, const std::string& rest = "") {
  return Types(R"({"type": "object", "properties": {"p": )" + property + "}" + rest + "}", "p");
}

TEST(ParameterTypesTest, TypesOfOneParameter) {
  EXPECT_EQ(TypesOf(R"({"type": "string"})"), "s");
  EXPECT_EQ(TypesOf(R"({"type": "integer"})"), "i");
  EXPECT_EQ(TypesOf(R"({"type": "number"})"), "if");
  EXPECT_EQ(TypesOf(R"({"type": ["string", "null"]})"), "ns");
  EXPECT_EQ(TypesOf(R"({"type": ["array", "boolean", "object"]})"), "boa");
  EXPECT_EQ(TypesOf(R"({"type": "string", "nullable": true})"), "ns");
  EXPECT_EQ(TypesOf(R"({"type": "string", "nullable": false})"), "s");
  EXPECT_EQ(TypesOf(R"({"enum": ["a", null, 3]})"), "nis");
  EXPECT_EQ(TypesOf(R"({"enum": [1.5, true]})"), "ifb");
  EXPECT_EQ(TypesOf(R"({"type": "string", "enum": ["a", "b"]})"), "s");
  EXPECT_EQ(TypesOf(R"({"const": {"a": 1}})"), "o");
  EXPECT_EQ(TypesOf(R"({"anyOf": [{"type": "string"}, {"type": "null"}]})"), "ns");
  EXPECT_EQ(TypesOf(R"({"oneOf": [{"type": "integer"}, {"type": "array"}]})"), "ia");
  EXPECT_EQ(TypesOf(R"({"allOf": [{"type": ["integer", "string"]}, {"type": "number"}]})"), "i");
  EXPECT_EQ(TypesOf(R"({"allOf": [{"type": "object"}, {"description": "d"}]})"), "o");
  EXPECT_EQ(TypesOf(R"({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]})"),
            "o");
  EXPECT_EQ(TypesOf(R"({"anyOf": [{"const": "a"}, {"enum": [1, 2]}, {"type": "null"}]})"), "nis");
}

TEST(ParameterTypesTest, WhatIsNotSaidIsAString) {
  EXPECT_EQ(TypesOf("{}"), "s");
  EXPECT_EQ(TypesOf("true"), "s");
  EXPECT_EQ(TypesOf("false"), "s");
  EXPECT_EQ(TypesOf(R"({"description": "anything"})"), "s");
  EXPECT_EQ(TypesOf(R"({"type": "no such type"})"), "s");
  EXPECT_EQ(TypesOf(R"({"type": 5})"), "s");
  EXPECT_EQ(TypesOf(R"({"anyOf": []})"), "s");
  EXPECT_EQ(TypesOf(R"({"anyOf": [{"type": "integer"}, {}]})"), "s");
  EXPECT_EQ(TypesOf(R"({"allOf": [{"type": "integer"}, {"type": "null"}]})"), "s");  // nothing fits
  EXPECT_EQ(Types("", "p"), "s");
  EXPECT_EQ(Types("{}", "p"), "s");
  EXPECT_EQ(Types(R"({"properties": {"q": {"type": "integer"}}})", "p"), "s");
}

TEST(ParameterTypesTest, StructureTellsTheTypeWhereNoneIsNamed) {
  EXPECT_EQ(TypesOf(R"({"properties": {"a": {}}})"), "o");
  EXPECT_EQ(TypesOf(R"({"items": {"type": "string"}})"), "a");
  EXPECT_EQ(TypesOf(R"({"properties": {}, "nullable": true})"), "no");
}

TEST(ParameterTypesTest, LocalReferences) {
  EXPECT_EQ(TypesOf(R"({"$ref": "#/$defs/X"})", R"(, "$defs": {"X": {"type": "integer"}})"), "i");
  EXPECT_EQ(TypesOf(R"({"$ref": "#/definitions/a~1b%20c~0"})",
                    R"(, "definitions": {"a/b c~": {"type": "array"}})"),
            "a");
  EXPECT_EQ(TypesOf(R"({"$ref": "#/x/1"})", R"(, "x": [true, {"type": "boolean"}])"), "b");
  EXPECT_EQ(TypesOf(R"({"$ref": "#"})"), "o");
  EXPECT_EQ(TypesOf(R"({"anyOf": [{"$ref": "#/$defs/X"}, {"type": "null"}], "default": null})",
                    R"(, "$defs": {"X": {"enum": ["a"]}})"),
            "ns");
  for (const char* missing :
       {"#/$defs/Y", "#X", "https://example.com/s.json", "", "#/x/9", "#/x/a", "#/type/0", "X"}) {
    EXPECT_EQ(TypesOf(absl::StrFormat(R"({"$ref": "%s"})", missing), R"(, "x": [true])"), "s")
        << missing;
  }
}

TEST(ParameterTypesTest, ReferencesThatGoRoundOrFanOutEnd) {
  EXPECT_EQ(TypesOf(R"({"$ref": "#/properties/p"})"), "s");
  EXPECT_EQ(TypesOf(R"({"anyOf": [{"$ref": "#/properties/p"}, {"type": "null"}]})"), "n");
  // Two that name each other: both may be what either may be.
  const std::string pair =
      R"({"properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/B"}},
      "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "integer"}]},
                "B": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}}})";
  EXPECT_EQ(Types(pair, "a"), "ni");
  EXPECT_EQ(Types(pair, "b"), "ni");
  // 2^40 paths.
  std::string fan = R"({"properties": {"p": {"$ref": "#/$defs/d0"}}, "$defs": {)";
  for (int i = 0; i < 40; ++i) {
    fan +=
        absl::StrFormat(R"("d%d": {"anyOf": [{"$ref": "#/$defs/d%d"}, {"$ref": "#/$defs/d%d"}]}, )",
                        i, i + 1, i + 1);
  }
  EXPECT_EQ(Types(fan + R"("d40": {"type": "integer"}}})", "p"), "s");
  // 100,000 levels deep.
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += R"({"anyOf": [)";
  deep += R"({"type": "integer"})";
  for (int i = 0; i < 100'000; ++i) deep += "]}";
  EXPECT_EQ(TypesOf(deep), "s");
  EXPECT_EQ(Types(deep, "p"), "s");
}

TEST(ParameterTypesTest, ParametersDeclaredThroughWhatTheSchemaIsMadeOf) {
  EXPECT_EQ(Types(R"({"$ref": "#/definitions/Args",
                      "definitions": {"Args": {"properties": {"p": {"type": "integer"}}}}})",
                  "p"),
            "i");
  EXPECT_EQ(Types(R"({"allOf": [{"properties": {"p": {"type": "array"}}},
                                {"properties": {"p": {"description": "only words"}}}]})",
                  "p"),
            "a");
  EXPECT_EQ(Types(R"({"oneOf": [{"properties": {"p": {"type": "integer"}}},
                                {"properties": {"p": {"type": "boolean"}}}]})",
                  "p"),
            "ib");
  EXPECT_EQ(Types(R"({"if": {}, "then": {"properties": {"p": {"type": "null"}}}})", "p"), "n");
}

TEST(ParameterTypesTest, NamesThatAreNotDeclared) {
  EXPECT_EQ(Types(R"({"additionalProperties": {"type": "integer"}})", "any"), "i");
  EXPECT_EQ(Types(R"({"additionalProperties": true})", "any"), "s");
  EXPECT_EQ(Types(R"({"additionalProperties": false})", "any"), "s");
}

TEST(DeclaredToolsTest, FindsNames) {
  const std::vector<ToolDeclaration> declarations = {
      {"get", ""},
      {"get_weather", R"({"properties": {"n": {"type": "integer"}}})"},
      {"run", "{}"},
      {"get_a", ""}};
  const auto tools = DeclaredTools::Create(declarations);
  ASSERT_TRUE(tools.ok()) << tools.status();
  ASSERT_NE(tools->Find("get_weather"), nullptr);
  EXPECT_TRUE(tools->Find("get_weather")->parameters.Of("n").Has(JsonType::kInteger));
  EXPECT_EQ(tools->Find("get_"), nullptr);
  EXPECT_EQ(tools->Find(""), nullptr);
  const auto longest = [&](const char* text) {
    const DeclaredTool* tool = tools->FindLongestPrefixOf(text);
    return tool == nullptr ? std::string() : tool->name;
  };
  EXPECT_EQ(longest("get_weathercity"), "get_weather");
  EXPECT_EQ(longest("get_weather"), "get_weather");
  EXPECT_EQ(longest("get_weathe"), "get");
  EXPECT_EQ(longest("get_zzz"), "get");
  EXPECT_EQ(longest("runx"), "run");
  EXPECT_EQ(longest("zzz"), "");
  EXPECT_EQ(longest("ge"), "");
  EXPECT_EQ(longest("a"), "");
  EXPECT_EQ(longest(""), "");
  EXPECT_TRUE(tools->HasNameBeginningWith("get_w"));
  EXPECT_TRUE(tools->HasNameBeginningWith("run"));
  EXPECT_TRUE(tools->HasNameBeginningWith(""));
  EXPECT_FALSE(tools->HasNameBeginningWith("runs"));
  EXPECT_FALSE(tools->HasNameBeginningWith("b"));
  EXPECT_FALSE(DeclaredTools().HasNameBeginningWith(""));
  EXPECT_EQ(DeclaredTools().FindLongestPrefixOf("x"), nullptr);
}

TEST(DeclaredToolsTest, ErrorsNameTheTool) {
  const auto error = [](std::vector<ToolDeclaration> declarations) {
    return std::string(DeclaredTools::Create(declarations).status().message());
  };
  EXPECT_THAT(error({{"f", ""}, {"", ""}}), HasSubstr("tools[1] has no name"));
  EXPECT_THAT(error({{"f", ""}, {"g", ""}, {"f", ""}}), HasSubstr("\"f\" is declared twice"));
  for (const char* schema : {"[]", "{", "\"s\"", "null", "{\"a\": \"\xFF\"}"}) {
    EXPECT_THAT(error({{"f", schema}}), HasSubstr("tools[0] \"f\": the schema")) << schema;
  }
}

}  // namespace
}  // namespace sheaf
