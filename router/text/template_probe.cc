#include "router/text/template_probe.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "router/text/output/output_format.h"

namespace sheaf {
namespace {

// Texts that no template writes.
constexpr std::string_view kQuestion = "sheafquestion";
constexpr std::string_view kAnswer = "sheafanswer";
constexpr std::string_view kNext = "sheafnext";

constexpr const char* kTools = R"([{"type": "function", "function": {"name": "sheaf_tool",
  "description": "d", "parameters": {"type": "object",
  "properties": {"place": {"type": "string"}}, "required": ["place"]}}}])";

struct Conversation {
  const char* what;
  std::string messages;
  bool tools = false;
  const char* arguments = "";
  bool add_generation_prompt = true;
  const char* behind_answer = "";  // what follows on the assistant's words
};

std::string Say(const char* role, std::string_view text) {
  return absl::StrFormat(R"({"role": "%s", "content": "%s"})", role, text);
}

std::string Call() {
  return absl::StrFormat(R"({"role": "assistant", "content": "", "tool_calls": [{"id": "call_0",
    "type": "function", "function": {"name": "sheaf_tool", "arguments": {"place": "%s"}}}]})",
                         kAnswer);
}

std::string Result() {
  return absl::StrFormat(R"({"role": "tool", "tool_call_id": "call_0", "content": "%s"})", kNext);
}

std::string Thought() {
  return absl::StrFormat(
      R"({"role": "assistant", "content": "%s", "reasoning_content": "sheafthought"})", kAnswer);
}

std::string List(std::initializer_list<std::string> messages) {
  std::string list;
  for (const std::string& message : messages) {
    absl::StrAppend(&list, list.empty() ? "[" : ", ", message);
  }
  return list + "]";
}

std::vector<Conversation> Conversations() {
  const std::string question = Say("user", kQuestion);
  const std::string answer = Say("assistant", kAnswer);
  return {
      {"a question", List({question})},
      {"a system message", List({Say("system", "sheafsystem"), question})},
      {"several turns", List({question, answer, Say("user", kNext)}), false, "", true,
       "a user's message"},
      {"a later system message", List({question, answer, Say("system", kNext)}), false, "", true,
       "a system message"},
      {"thoughts in the history", List({question, Thought(), Say("user", kNext)}), false, "", true,
       "a user's message"},
      {"tools", List({question}), true},
      {"a tool call and its result", List({question, Call(), Result()}), true, "", true,
       "a tool's result"},
      {"enable_thinking = true", List({question}), false, R"({"enable_thinking": true})"},
      {"enable_thinking = false", List({question}), false, R"({"enable_thinking": false})"},
      {"a history without a generation prompt", List({question, answer}), false, "", false,
       "the end of a chat"},
  };
}

bool IsNameCharacter(char c) {
  return c != '<' && c != '>' && c != '|' && c != ' ' && c != '\n' && c != '\t';
}

// "<|name|>" that begins at `at`.
std::optional<std::string_view> PipedToken(std::string_view text, size_t at) {
  if (!text.substr(at).starts_with("<|")) return std::nullopt;
  size_t end = at + 2;
  while (end < text.size() && IsNameCharacter(text[end])) ++end;
  if (end == at + 2 || !text.substr(end).starts_with("|>")) return std::nullopt;
  return text.substr(at, end + 2 - at);
}

constexpr std::string_view kPrefixTokens[] = {"[gMASK]", "[sMASK]", "[MASK]", "<sop>", "<eop>"};

std::set<std::string> RoleTokensIn(std::string_view text) {
  std::set<std::string> tokens;
  for (size_t at = 0; at < text.size(); ++at) {
    if (const auto token = PipedToken(text, at)) tokens.emplace(*token);
    for (const std::string_view token : kPrefixTokens) {
      if (text.substr(at).starts_with(token)) tokens.emplace(token);
    }
  }
  return tokens;
}

std::set<std::string> TagsIn(std::string_view text) {
  std::set<std::string> tags;
  for (int tag = 0; tag < static_cast<int>(kNumOutputTags); ++tag) {
    const std::string_view tag_text = OutputTagText(static_cast<OutputTag>(tag));
    if (text.find(tag_text) != std::string_view::npos) tags.emplace(tag_text);
  }
  return tags;
}

// Those of `texts` that are not one token.
std::vector<TornToken> Torn(const std::set<std::string>& texts, const Tokenizer& tokenizer) {
  std::vector<TornToken> torn;
  for (const std::string& text : texts) {
    const auto ids = tokenizer.Encode(text, /*add_special_tokens=*/false);
    if (ids.ok() && ids->size() != 1) torn.push_back({text, ids->size()});
  }
  return torn;
}

struct FoundToken {
  size_t at;
  AddedToken token;
};

// In order of place.
std::vector<FoundToken> AddedTokensIn(std::string_view text,
                                      const std::vector<AddedToken>& added) {
  std::vector<FoundToken> found;
  for (const AddedToken& token : added) {
    const size_t at = text.find(token.text);
    if (at != std::string_view::npos) found.push_back({at, token});
  }
  std::sort(found.begin(), found.end(), [](const FoundToken& a, const FoundToken& b) {
    return a.at != b.at ? a.at < b.at : a.token.text.size() > b.token.text.size();
  });
  return found;
}

// The token that ends the assistant's turn: the first control token behind what it said.
std::optional<TokenId> TurnEndIn(std::string_view rendered, const std::vector<AddedToken>& added) {
  const size_t said = rendered.rfind(kAnswer);
  if (said == std::string_view::npos) return std::nullopt;
  std::string_view rest = rendered.substr(said + kAnswer.size());
  rest = rest.substr(0, rest.find(kNext));
  const std::vector<FoundToken> found = AddedTokensIn(rest, added);
  for (const FoundToken& f : found) {
    // Tags within a turn are no control tokens; role tokens are, even where their flag is missing.
    if (f.token.special || PipedToken(rest, f.at) == f.token.text) return f.token.id;
  }
  return std::nullopt;
}

std::vector<TokenId> PrefixOf(std::string_view rendered, const Tokenizer& tokenizer) {
  std::vector<TokenId> prefix;
  const auto ids = tokenizer.Encode(rendered, /*add_special_tokens=*/false);
  if (!ids.ok()) return prefix;
  for (const TokenId id : *ids) {
    const std::string_view text = tokenizer.TokenText(id);
    if (std::find(std::begin(kPrefixTokens), std::end(kPrefixTokens), text) ==
        std::end(kPrefixTokens)) {
      break;
    }
    prefix.push_back(id);
  }
  return prefix;
}

}  // namespace

TemplateProbe ProbeTemplate(const ChatTemplate& chat_template, const Tokenizer& tokenizer) {
  TemplateProbe probe;
  const std::vector<AddedToken> added = tokenizer.AddedTokens();
  std::set<std::string> role_tokens;
  std::set<std::string> tags;
  for (const Conversation& conversation : Conversations()) {
    const ChatPrompt prompt = {.messages_json = conversation.messages,
                               .tools_json = conversation.tools ? kTools : "",
                               .arguments_json = conversation.arguments,
                               .add_generation_prompt = conversation.add_generation_prompt};
    const absl::StatusOr<std::string> rendered = chat_template.Render(prompt);
    if (!rendered.ok()) {
      probe.failures.push_back(absl::StrFormat("the chat template fails on %s: %s",
                                               conversation.what, rendered.status().message()));
      if (!probe.chats_at_all) return probe;  // the first is the simplest there is
      continue;
    }
    if (!std::exchange(probe.chats_at_all, true)) {
      probe.prefix = PrefixOf(*rendered, tokenizer);
    }
    role_tokens.merge(RoleTokensIn(*rendered));
    tags.merge(TagsIn(*rendered));
    if (const auto end = TurnEndIn(*rendered, added)) {
      const bool known = std::any_of(probe.turn_ends.begin(), probe.turn_ends.end(),
                                     [&](const TurnEnd& t) { return t.id == *end; });
      if (!known) probe.turn_ends.push_back({*end, conversation.behind_answer});
    }
  }
  probe.torn_role_tokens = Torn(role_tokens, tokenizer);
  probe.torn_tags = Torn(tags, tokenizer);
  return probe;
}

}  // namespace sheaf
