#pragma once
// The output parser's rules once more, for tests: slow, and with the whole output in view, so that
// nothing is held back, joined or decided early.

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nlohmann/json.hpp"
#include "router/text/output/output_parser.h"
#include "tests/text/output/complete_json.h"
#include "tests/text/output/parsed_output.h"

namespace sheaf::testing {

class ReferenceParser {
 public:
  struct Result {
    std::vector<OutputEvent> events;  // joined
    int num_calls = 0;
    int num_undeclared = 0;
    bool call_open = false;
    bool in_thoughts = false;
  };

  explicit ReferenceParser(const OutputParserOptions& options) : options_(options) {}

  Result Parse(const Script& script, OutputStop stop) {
    stop_ = stop;
    Split(script);
    thoughts_ = ThinkTags() && options_.start == OutputStart::kThoughts;
    // One stretch of thoughts or content at a time, up to the tag that ends it.
    bool after_tag =
        !options_.keep_leading_space && (ThinkTags() || options_.format.tools != TagFormat::kNone);
    std::string stretch;
    while (true) {
      if (at_ == parts_.size()) {
        Say(stretch, after_tag, /*before_tag=*/false);
        break;
      }
      const Part& part = parts_[at_];
      if (!part.tag || *part.tag > OutputTag::kCallBegin) {
        stretch += part.text;
        ++at_;
        continue;
      }
      if (*part.tag != OutputTag::kCallBegin) {
        Say(stretch, after_tag, true);
        stretch.clear();
        after_tag = true;
        thoughts_ = *part.tag == OutputTag::kThinkBegin;
        ++at_;
        continue;
      }
      // A call, or text that looks like one.
      const size_t begin = at_;
      std::string key;
      bool counts = true;
      const DeclaredTool* tool = ReadName(&key, &counts);
      if (tool == nullptr) {
        if (thoughts_) {
          Say(stretch, after_tag, true);
          stretch.clear();
          after_tag = true;
          thoughts_ = false;
        }
        if (counts) {
          ++result_.num_undeclared;
          SkipUndeclared(begin);
        }
        for (size_t i = begin; i < at_; ++i) stretch += parts_[i].text;
        continue;
      }
      Say(stretch, after_tag, true);
      stretch.clear();
      after_tag = true;
      thoughts_ = false;
      ReadArguments(*tool, key);
      if (result_.call_open) break;
    }
    result_.in_thoughts = thoughts_ && !result_.call_open;
    result_.events = JoinEvents(result_.events);
    return result_;
  }

 private:
  struct Part {
    std::optional<OutputTag> tag;
    std::string text;
  };

  bool ThinkTags() const { return options_.format.reasoning != TagFormat::kNone; }
  bool CallTags() const {
    return options_.format.tools != TagFormat::kNone && options_.tools != nullptr;
  }

  // Texts and tags one after another; what is no tag here is text.
  void Split(const Script& script) {
    const auto ids = options_.format.tags.InOrder();
    const auto wanted = [&](size_t tag) { return tag < 2 ? ThinkTags() : CallTags(); };
    std::string text;
    const auto end_text = [&] {
      while (!text.empty()) {
        size_t begin = std::string::npos;
        size_t which = 0;
        for (size_t tag = 0; tag < kNumOutputTags; ++tag) {
          if (ids[tag] || !wanted(tag)) continue;
          const size_t at = text.find(OutputTagText(static_cast<OutputTag>(tag)));
          if (at < begin) {
            begin = at;
            which = tag;
          }
        }
        if (begin == std::string::npos) {
          parts_.push_back({std::nullopt, text});
          text.clear();
          return;
        }
        if (begin > 0) parts_.push_back({std::nullopt, text.substr(0, begin)});
        const auto tag = static_cast<OutputTag>(which);
        parts_.push_back({tag, std::string(OutputTagText(tag))});
        text.erase(0, begin + OutputTagText(tag).size());
      }
    };
    for (const ScriptPiece& piece : script) {
      if (piece.tag && ids[static_cast<size_t>(*piece.tag)] &&
          wanted(static_cast<size_t>(*piece.tag))) {
        end_text();
        parts_.push_back({piece.tag, piece.text});
      } else {
        text += piece.text;
      }
    }
    end_text();
  }

  void Say(std::string text, bool after_tag, bool before_tag) {
    constexpr const char* kSpace = " \t\n\v\f\r";
    if (after_tag) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
    if (before_tag) text.erase(text.find_last_not_of(kSpace) + 1);
    if (text.empty()) return;
    if (thoughts_) {
      result_.events.push_back(ReasoningText{text});
    } else {
      result_.events.push_back(ContentText{text});
    }
  }

  // From <tool_call>: leaves at_ after the name, at the tag that ended it. nullptr: no call;
  // `counts` false: nothing was called at all.
  const DeclaredTool* ReadName(std::string* key, bool* counts) {
    ++at_;
    std::string text;
    if (at_ < parts_.size() && !parts_[at_].tag) text = parts_[at_++].text;
    const std::string name(StripSpace(text));
    std::string left = text;
    left.erase(0, left.size() - (StripSpace(left + "x").size() - 1));
    const DeclaredTool* prefix = nullptr;
    for (size_t length = left.size(); length > 0 && prefix == nullptr; --length) {
      prefix = options_.tools->Find(left.substr(0, length));
    }
    if (!text.empty() && prefix == nullptr && !options_.tools->HasNameBeginningWith(left))
      return nullptr;
    if (at_ == parts_.size() || parts_[at_].tag == OutputTag::kCallBegin) {
      *counts = false;
      return nullptr;
    }
    switch (*parts_[at_].tag) {
      case OutputTag::kKeyBegin:
      case OutputTag::kCallEnd:
        return options_.tools->Find(name);
      case OutputTag::kKeyEnd:
      case OutputTag::kValueBegin: {
        const size_t line = name.find('\n');
        if (line != std::string::npos) {
          *key = name.substr(line);
          const DeclaredTool* tool = options_.tools->Find(StripSpace(name.substr(0, line)));
          if (tool != nullptr) return tool;
        }
        if (prefix != nullptr) *key = left.substr(prefix->name.size());
        return prefix;
      }
      default:
        return nullptr;
    }
  }

  void SkipUndeclared(size_t begin) {
    bool in_value = false;
    for (at_ = begin + 1; at_ < parts_.size(); ++at_) {
      const auto tag = parts_[at_].tag;
      if (tag == OutputTag::kCallBegin && !in_value) return;
      if (tag == OutputTag::kValueBegin) in_value = true;
      if (tag == OutputTag::kValueEnd) in_value = false;
      if (tag == OutputTag::kCallEnd) {
        ++at_;
        return;
      }
    }
  }

  // Strings as another library escapes them, and the line separators.
  static std::string Quoted(std::string_view text) {
    std::string json = nlohmann::json(text).dump();
    const std::pair<const char*, const char*> kSeparators[] = {
        {"\u0085", "\\u0085"}, {"\u2028", "\\u2028"}, {"\u2029", "\\u2029"}};
    for (const auto& [character, escape] : kSeparators) {
      for (size_t at; (at = json.find(character)) != std::string::npos;) {
        json.replace(at, std::string_view(character).size(), escape);
      }
    }
    return json;
  }

  void ReadArguments(const DeclaredTool& tool, std::string key) {
    const int index = num_begun_++;
    result_.events.push_back(CallBegin{index, "", tool.name});
    std::string json;
    bool in_key = false;
    bool key_ended = false;
    bool complete = false;
    while (true) {
      if (at_ == parts_.size()) {
        complete =
            stop_ == OutputStop::kStopToken && !in_key && !key_ended && StripSpace(key).empty();
        break;
      }
      const Part& part = parts_[at_];
      if (!part.tag || *part.tag < OutputTag::kCallBegin) {
        if (!key_ended) key += part.text;
        ++at_;
        continue;
      }
      if (*part.tag == OutputTag::kCallBegin || *part.tag == OutputTag::kCallEnd) {
        if (*part.tag == OutputTag::kCallEnd) ++at_;
        complete = true;
        break;
      }
      ++at_;
      switch (*part.tag) {
        case OutputTag::kKeyBegin:
          key.clear();
          in_key = true;
          key_ended = false;
          break;
        case OutputTag::kKeyEnd:
          in_key = false;
          key_ended = true;
          break;
        case OutputTag::kValueEnd:
          key.clear();
          in_key = key_ended = false;
          break;
        default: {
          json += json.empty() ? "{" : ",";
          json += Quoted(StripSpace(key)) + ":";
          std::string value;
          while (at_ < parts_.size() && parts_[at_].tag != OutputTag::kValueEnd &&
                 parts_[at_].tag != OutputTag::kCallEnd) {
            value += parts_[at_++].text;
          }
          const JsonTypes types = tool.parameters.Of(StripSpace(key));
          if (at_ == parts_.size()) {
            json += PartOfValue(value, types);
            result_.events.push_back(CallArguments{index, json});
            result_.call_open = true;
            return;
          }
          json += Value(value, types);
          if (parts_[at_].tag == OutputTag::kValueEnd) ++at_;
          key.clear();
          in_key = key_ended = false;
        }
      }
    }
    if (complete) {
      result_.events.push_back(CallArguments{index, json.empty() ? "{}" : json + "}"});
      result_.events.push_back(CallEnd{index});
      ++result_.num_calls;
      return;
    }
    if (!json.empty()) result_.events.push_back(CallArguments{index, json});
    result_.call_open = true;
  }

  // What of a value that never ended is known.
  static std::string PartOfValue(const std::string& raw, JsonTypes types) {
    const bool only_string = types == JsonTypes(JsonType::kString);
    const bool or_null = types == (JsonTypes(JsonType::kString) | JsonType::kNull);
    if (!only_string && !or_null) return "";
    std::string quoted = Quoted(raw);
    quoted.pop_back();
    if (only_string) return quoted;
    const std::string text(StripSpace(raw));
    const bool ended = !raw.empty() && IsSpace(raw.back()) && !text.empty();
    for (const std::string_view null : {"null", "None"}) {
      if (text == null || (!ended && null.starts_with(text))) return "";
    }
    return quoted;
  }

  static std::string Value(const std::string& raw, JsonTypes types) {
    const std::string text(StripSpace(raw));
    const auto is_number = [&] {
      return !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) &&
             IsCompleteJson(text);
    };
    if (types.Has(JsonType::kNull) && (text == "null" || text == "None")) return "null";
    if (types.Has(JsonType::kInteger) && is_number() &&
        text.find_first_of(".eE") == std::string::npos) {
      return text;
    }
    if (types.Has(JsonType::kNumber) && is_number()) return text;
    if (types.Has(JsonType::kBoolean) && (text == "true" || text == "True")) return "true";
    if (types.Has(JsonType::kBoolean) && (text == "false" || text == "False")) return "false";
    if (types.Has(JsonType::kObject) && text.starts_with('{') && IsCompleteJson(text)) return text;
    if (types.Has(JsonType::kArray) && text.starts_with('[') && IsCompleteJson(text)) return text;
    if (!types.Has(JsonType::kString) && IsCompleteJson(text)) return text;
    return Quoted(raw);
  }

  const OutputParserOptions& options_;
  OutputStop stop_ = OutputStop::kStopToken;
  std::vector<Part> parts_;
  size_t at_ = 0;
  bool thoughts_ = false;
  int num_begun_ = 0;
  Result result_;
};

}  // namespace sheaf::testing
