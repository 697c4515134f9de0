#pragma once
// TemplateFiles: where a checkpoint keeps its chat templates, as transformers looks for them.
//
// chat_template.jinja is the default one and each additional_chat_templates/NAME.jinja the one of
// that name; files come before "chat_template" in tokenizer_config.json (a text, or a list of
// {"name", "template"}), and that before "chat_template" in chat_template.json.
// Errors  kNotFound: there is none; kInvalidArgument: a file is broken, or there are templates and
//         none is the default. Messages name the file.

#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace sheaf {

struct TemplateSource {
  std::string name;  // of the file, for messages
  std::string text;
};

struct TemplateFiles {
  TemplateSource main;
  std::optional<TemplateSource> tool_use;  // instead of `main` where tools are given
  // The special tokens by name (eos_token, ...): variables of the template; a JSON object.
  std::string globals_json;
};

absl::StatusOr<TemplateFiles> ReadTemplateFiles(const std::string& checkpoint_dir);

// tokenizer_config.json's eos_token; empty: none.
absl::StatusOr<std::string> ReadEosToken(const std::string& checkpoint_dir);

}  // namespace sheaf
