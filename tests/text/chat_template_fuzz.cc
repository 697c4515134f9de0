// Messages, tools and arguments of a chat come from clients: no bytes may crash the renderer or
// make it answer with text that is not UTF-8.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "router/text/chat_template.h"

namespace {

// Walks all the data that a client can send.
constexpr const char* kTemplate =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v | tojson }}{% "
    "endfor %}"
    "{% endfor %}{% endfor %}{% for t in tools or [] %}{{ t | tojson(indent=1) }}{% endfor %}{{ "
    "extra }}";

std::string_view TakeField(std::string_view& data) {
  const size_t end = data.find('\0');
  const std::string_view field = data.substr(0, end);
  data = end == std::string_view::npos ? std::string_view() : data.substr(end + 1);
  return field;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static const auto chat_template = *sheaf::ChatTemplate::FromSource("fuzz.jinja", kTemplate, "");
  std::string_view data(reinterpret_cast<const char*>(bytes), size);
  sheaf::ChatPrompt prompt;
  prompt.messages_json = TakeField(data);
  prompt.tools_json = TakeField(data);
  prompt.arguments_json = TakeField(data);
  const auto text = chat_template->Render(prompt);
  // A defect inside comes back as kInternal.
  if (!text.ok() && text.status().code() != absl::StatusCode::kInvalidArgument) std::abort();
  return 0;
}
