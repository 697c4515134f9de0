#include "router/text/output/argument_value.h"

#include <utility>

namespace sheaf {
namespace {

bool IsNull(std::string_view text) { return text == "null" || text == "None"; }
bool IsTrue(std::string_view text) { return text == "true" || text == "True"; }
bool IsFalse(std::string_view text) { return text == "false" || text == "False"; }

bool IsContainer(std::string_view text, char opening) {
  return !text.empty() && text.front() == opening && IsJson(text);
}

}  // namespace

void ArgumentValue::Begin(JsonTypes types, std::string& json) {
  types_ = types;
  held_.clear();
  null_word_ = {};
  null_matched_ = 0;
  if (types == JsonTypes(JsonType::kString)) {
    BeginString(json);
  } else if (types == (JsonTypes(JsonType::kString) | JsonType::kNull)) {
    mode_ = Mode::kStringOrNull;
  } else {
    mode_ = Mode::kWhole;
  }
}

void ArgumentValue::BeginString(std::string& json) {
  mode_ = Mode::kString;
  json.push_back('"');
}

void ArgumentValue::Push(std::string_view text, std::string& json) {
  if (mode_ == Mode::kStringOrNull && !MayBeNull(text)) {
    BeginString(json);
    string_.Append(std::exchange(held_, {}), json);
  }
  if (mode_ == Mode::kString) {
    string_.Append(text, json);
  } else {
    held_ += text;
  }
}

// Whether held_ and then `text` may be null with white space around it.
bool ArgumentValue::MayBeNull(std::string_view text) {
  for (const char c : text) {
    if (null_matched_ < null_word_.size()) {
      if (c != null_word_[null_matched_]) return false;
      ++null_matched_;
    } else if (IsSpace(c)) {
      continue;
    } else if (null_word_.empty() && (c == 'n' || c == 'N')) {
      null_word_ = c == 'n' ? "null" : "None";
      null_matched_ = 1;
    } else {
      return false;
    }
  }
  return true;
}

void ArgumentValue::Finish(std::string& json) {
  if (mode_ == Mode::kString) {
    string_.Finish(json);
    json.push_back('"');
  } else {
    json += ArgumentJson(std::exchange(held_, {}), types_);
  }
}

std::string ArgumentJson(std::string_view raw, JsonTypes types) {
  const std::string_view text = StripSpace(raw);
  if (types.Has(JsonType::kNull) && IsNull(text)) return "null";
  if (types.Has(JsonType::kInteger) && IsJsonInteger(text)) return std::string(text);
  if (types.Has(JsonType::kNumber) && IsJsonNumber(text)) return std::string(text);
  if (types.Has(JsonType::kBoolean) && IsTrue(text)) return "true";
  if (types.Has(JsonType::kBoolean) && IsFalse(text)) return "false";
  if (types.Has(JsonType::kObject) && IsContainer(text, '{')) return std::string(text);
  if (types.Has(JsonType::kArray) && IsContainer(text, '[')) return std::string(text);
  if (!types.Has(JsonType::kString) && IsJson(text)) return std::string(text);
  std::string json;
  AppendJsonString(raw, json);
  return json;
}

}  // namespace sheaf
