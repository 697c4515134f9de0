#include "router/text/template_files.h"

#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/json_nul.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "router/text/checkpoint_file.h"

namespace sheaf {
namespace {

using Json = nlohmann::json;
using Templates = std::map<std::string, TemplateSource>;  // by name

// The file's object; an empty one when there is no such file.
absl::StatusOr<Json> ReadObject(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(const std::string text, ReadOptionalCheckpointFile(path));
  if (text.empty()) return Json::object();
  Json object = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || HasNul(text)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: not a JSON object", path));
  }
  return object;
}

// Tokens are written as "text" or as {"content": "text", ...}.
void AddSpecialTokens(const Json& config, Json& tokens) {
  for (const auto& [name, token] : config.items()) {
    if (!name.ends_with("_token")) continue;
    if (token.is_string()) {
      tokens[name] = token;
    } else if (token.is_object() && token.contains("content") && token["content"].is_string()) {
      tokens[name] = token["content"];
    }
  }
}

// By name. The map is older than the list of added tokens and counts where there is no list.
absl::StatusOr<Json> SpecialTokens(const std::string& checkpoint_dir) {
  SHEAF_ASSIGN_OR_RETURN(const Json config, ReadObject(checkpoint_dir + "/tokenizer_config.json"));
  Json tokens = Json::object();
  AddSpecialTokens(config, tokens);
  if (!config.contains("added_tokens_decoder")) {
    SHEAF_ASSIGN_OR_RETURN(const Json map, ReadObject(checkpoint_dir + "/special_tokens_map.json"));
    AddSpecialTokens(map, tokens);
  }
  return tokens;
}

absl::StatusOr<Templates> TemplatesOfFiles(const std::string& checkpoint_dir) {
  Templates templates;
  const auto add = [&templates](const std::string& name, const std::string& path) -> absl::Status {
    absl::StatusOr<std::string> text = ReadCheckpointFile(path);
    if (absl::IsNotFound(text.status())) return absl::OkStatus();
    if (!text.ok()) return text.status();
    templates[name] = {path, *std::move(text)};
    return absl::OkStatus();
  };
  SHEAF_RETURN_IF_ERROR(add("default", checkpoint_dir + "/chat_template.jinja"));
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(
           checkpoint_dir + "/additional_chat_templates", error)) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() != ".jinja") continue;
    SHEAF_RETURN_IF_ERROR(add(path.stem().string(), path.string()));
  }
  return templates;
}

// A text, or a list of templates with names.
absl::StatusOr<Templates> TemplatesOfConfig(const Json& config, const std::string& path) {
  Templates templates;
  const auto field = config.find("chat_template");
  if (field == config.end() || field->is_null()) return templates;
  const std::string where = path + "#chat_template";
  if (field->is_string()) {
    templates["default"] = {where, field->get<std::string>()};
  } else if (field->is_array()) {
    for (const Json& entry : *field) {
      if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
          !entry.contains("template") || !entry["template"].is_string()) {
        return absl::InvalidArgumentError(
            absl::StrFormat("%s: chat_template lists something other than a template with its name",
                            path));
      }
      const std::string name = entry["name"].get<std::string>();
      templates[name] = {absl::StrFormat("%s[%s]", where, name),
                         entry["template"].get<std::string>()};
    }
  } else {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: chat_template must be a string or a list, got %s", path, field->type_name()));
  }
  return templates;
}

}  // namespace

absl::StatusOr<std::string> ReadEosToken(const std::string& checkpoint_dir) {
  SHEAF_ASSIGN_OR_RETURN(const Json globals, SpecialTokens(checkpoint_dir));
  return globals.value("eos_token", std::string());
}

absl::StatusOr<TemplateFiles> ReadTemplateFiles(const std::string& checkpoint_dir) {
  const std::string config_path = checkpoint_dir + "/tokenizer_config.json";
  SHEAF_ASSIGN_OR_RETURN(const Json config, ReadObject(config_path));
  SHEAF_ASSIGN_OR_RETURN(Templates templates, TemplatesOfFiles(checkpoint_dir));
  if (templates.empty()) {
    SHEAF_ASSIGN_OR_RETURN(templates, TemplatesOfConfig(config, config_path));
  }
  if (templates.empty()) {
    const std::string path = checkpoint_dir + "/chat_template.json";
    SHEAF_ASSIGN_OR_RETURN(const Json older, ReadObject(path));
    SHEAF_ASSIGN_OR_RETURN(templates, TemplatesOfConfig(older, path));
  }
  if (templates.empty()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s: no chat_template here, and no chat_template.jinja beside it", config_path));
  }
  const auto main = templates.find("default");
  if (main == templates.end()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: there is no template named \"default\" beside this one",
                        templates.begin()->second.name));
  }
  TemplateFiles files;
  files.main = std::move(main->second);
  if (const auto tool_use = templates.find("tool_use"); tool_use != templates.end()) {
    files.tool_use = std::move(tool_use->second);
  }
  SHEAF_ASSIGN_OR_RETURN(const Json globals, SpecialTokens(checkpoint_dir));
  // Bytes that are not UTF-8 cannot get into it: nlohmann refuses them when parsing.
  files.globals_json = globals.dump();
  return files;
}

}  // namespace sheaf
