#pragma once
// ChatTemplate turns chat messages into the one text that the model continues, by the checkpoint's
// own Jinja template.
//
// JSON       Messages, tools and arguments go in as JSON text, keys in the order given: what a
//            template prints of them is what Python's json.dumps would print.
// Threads    Immutable after loading: Render from any number of threads.
// Errors     Loading: kNotFound when the checkpoint has no template (such a checkpoint serves
//            completions only); kInvalidArgument naming file and line when it does not compile.
//            Rendering: kInvalidArgument when the messages are wrong (the message has the path,
//            such as messages[2].content[0].type) or when the template itself refuses them.
// Cost       About 10 us for a short chat.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/rendered_chat.h"
#include "router/text/tokenizer.h"

struct SheafChatTemplate;

namespace sheaf {

struct ChatPrompt {
  std::string messages_json = {};  // array of {"role", "content", ...}, at least one
  std::string tools_json = {};     // array of tool definitions; empty or null: none
  // Object of further variables of the template ("enable_thinking": false); empty: none.
  std::string arguments_json = {};
  bool add_generation_prompt = true;  // end where the assistant's answer begins
  int64_t local_seconds = 0;  // what strftime_now formats: the local clock's seconds since 1970
};

class ChatTemplate {
 public:
  // The checkpoint's own (template_files.h); a template named "tool_use" is taken where tools are
  // given. The special tokens named in tokenizer_config.json (eos_token, ...) are variables.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& checkpoint_dir);
  // `name` stands for the file in messages; `globals_json` is an object of variables, or empty.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> FromSource(std::string_view name,
                                                                  std::string_view source,
                                                                  std::string_view globals_json);
  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // For messages as clients send them. They are first brought into the form that templates read
  // rightly: null content becomes "", text parts become one string, "developer" becomes "system",
  // tool call arguments given as JSON text become an object; what a template would drop or garble
  // silently is an error.
  absl::StatusOr<std::string> Render(const ChatPrompt& prompt) const;

  // As Render. Plain are the texts of `tokenizer`'s added tokens that stand in messages, tools and
  // arguments: what the client wrote, not the template. A chat without such texts renders as ever.
  absl::StatusOr<RenderedChat> RenderMarked(const ChatPrompt& prompt,
                                            const Tokenizer& tokenizer) const;

  // The file's.
  const std::string& name() const { return name_; }

  // The template's answer to exactly these messages, as Jinja2 gives it.
  absl::StatusOr<std::string> RenderVerbatim(const ChatPrompt& prompt) const;

 private:
  ChatTemplate(std::string name, SheafChatTemplate* handle);

  absl::StatusOr<std::string> RenderMessages(std::string_view messages_json,
                                             const ChatPrompt& prompt) const;

  const std::string name_;
  SheafChatTemplate* const handle_;         // owned
  std::unique_ptr<ChatTemplate> tool_use_;  // null: this one for chats with tools, too
};

// The messages (a JSON array) as Render sees them after that first step.
absl::StatusOr<std::string> NormalizeChatMessages(std::string_view messages_json);

}  // namespace sheaf
