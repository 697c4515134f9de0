#pragma once
// AnswerPlan: how the output of one request is guided while it is generated, and how it is read
// when it comes: decided from the request and its rendered prompt.
//
//   asked for                              guided by
//   tool_choice required or a name         a grammar of calls, arguments by their schemas
//   strict tools, allowed_tools,           a grammar of free text and calls; arguments of strict
//   parallel_tool_calls = false            tools by their schemas
//   response_format, structured outputs    that grammar; with tools: calls or that
//   otherwise                              nothing
// Grammars begin after the thoughts.
//
// Threads: pure. Cost: that of compiling the grammar (cached by content).
// Errors: kInvalidArgument naming the field whose grammar cannot be had.

#include <memory>
#include <string_view>

#include "router/api/request/api_error.h"
#include "router/api/request/api_settings.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/prompt/text_codec.h"
#include "router/text/guide/guide_plan.h"
#include "router/text/output/declared_tools.h"
#include "router/text/output/output_format.h"

namespace sheaf {

// How a chat's output is told apart into thoughts, text and calls.
struct ChatOutputPlan {
  OutputFormat format;
  OutputStart start = OutputStart::kContent;
  std::shared_ptr<const DeclaredTools> tools;  // null: calls are plain text
  bool keep_leading_space = false;             // the output continues a text
};

struct AnswerPlan {
  ChatOutputPlan output;                   // for chats
  std::shared_ptr<const GuidePlan> guide;  // null: free, and no thoughts to count
};

// Whether PlanAnswer would compile a grammar (or say what is wrong with it), which may take a
// second. Cheap: looks at the request alone.
bool NeedsGrammar(const ParsedRequest& request);

// `prompt`: the rendered chat, or any text for completions.
ApiResult<AnswerPlan> PlanAnswer(const ParsedRequest& request, std::string_view prompt,
                                 const TextCodec& codec, const ApiSettings& settings);

}  // namespace sheaf
