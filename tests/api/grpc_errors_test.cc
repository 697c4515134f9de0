#include "router/api/grpc/grpc_errors.h"

#include "gtest/gtest.h"

namespace sheaf {
namespace {

TEST(GrpcFieldPath, SaysWhereTheFieldIs) {
  EXPECT_EQ(GrpcFieldPath("top_p"), "sampling.top_p");
  EXPECT_EQ(GrpcFieldPath("bad_words"), "sampling.bad_words");
  EXPECT_EQ(GrpcFieldPath("bad_words[3]"), "sampling.bad_words[3]");
  EXPECT_EQ(GrpcFieldPath("include_reasoning"), "output.include_reasoning");
  EXPECT_EQ(GrpcFieldPath("messages[2].tool_calls[0].function.arguments"),
            "chat.messages[2].tool_calls[0].arguments_json");
  EXPECT_EQ(GrpcFieldPath("tools"), "chat.tools");
  EXPECT_EQ(GrpcFieldPath("tools[12].function"), "chat.tools[12]");
  EXPECT_EQ(GrpcFieldPath("tools[12].function.name"), "chat.tools[12].name");
  EXPECT_EQ(GrpcFieldPath("tools[0].function.parameters.type"),
            "chat.tools[0].parameters_json.type");
  EXPECT_EQ(GrpcFieldPath("tool_choice"), "chat.tool_choice");
  EXPECT_EQ(GrpcFieldPath("thinking_token_budget"), "chat.thinking_token_budget");
}

TEST(GrpcFieldPath, OthersStay) {
  EXPECT_EQ(GrpcFieldPath("constraint"), "constraint");
  EXPECT_EQ(GrpcFieldPath("constraint.json_object"), "constraint.json_object");
  EXPECT_EQ(GrpcFieldPath("toolsmith[1]"), "toolsmith[1]");
  EXPECT_EQ(GrpcFieldPath(""), "");
}

}  // namespace
}  // namespace sheaf
