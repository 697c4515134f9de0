#include "router/text/output/output_parser.h"

#include <utility>

namespace sheaf {
namespace {

// `text` joins the last event when that is a piece of the same thing.
template <typename Event>
void AppendText(std::string_view text, std::vector<OutputEvent>& events) {
  if (text.empty()) return;
  if (auto* last = events.empty() ? nullptr : std::get_if<Event>(&events.back())) {
    last->text += text;
  } else {
    events.push_back(Event{std::string(text)});
  }
}

// Where the arguments of a call are written to.
std::string& ArgumentsJson(int index, std::vector<OutputEvent>& events) {
  auto* last = events.empty() ? nullptr : std::get_if<CallArguments>(&events.back());
  if (last == nullptr || last->index != index) {
    events.push_back(CallArguments{index, {}});
    last = &std::get<CallArguments>(events.back());
  }
  return last->json;
}

}  // namespace

OutputParser::OutputParser(OutputParserOptions options)
    : options_(std::move(options)),
      verbatim_(options_.format.tools == TagFormat::kNone &&
                options_.format.reasoning == TagFormat::kNone),
      scanner_(options_.format.tags, options_.format.reasoning != TagFormat::kNone,
               options_.format.tools != TagFormat::kNone && options_.tools != nullptr),
      drop_space_(!options_.keep_leading_space) {
  if (options_.start == OutputStart::kThoughts && options_.format.reasoning != TagFormat::kNone) {
    state_ = State::kThoughts;
  }
}

bool OutputParser::call_open() const {
  return state_ == State::kArguments || state_ == State::kKey || state_ == State::kBeforeValue ||
         state_ == State::kValue;
}

void OutputParser::Push(std::optional<TokenId> id, std::string_view text, Events& events) {
  if (id.has_value()) {
    if (const std::optional<OutputTag> tag = scanner_.TagOf(*id)) {
      OnText(scanner_.Flush(), events);
      OnTag(*tag, events);
      return;
    }
  }
  while (const std::optional<TagScanner::Item> item = scanner_.Next(text)) {
    if (item->tag.has_value()) {
      OnTag(*item->tag, events);
    } else {
      OnText(item->text, events);
    }
  }
}

void OutputParser::Finish(OutputStop how, Events& events) {
  OnText(scanner_.Flush(), events);
  if (state_ == State::kName) GiveUpName(events);
  if (state_ == State::kArguments && how == OutputStop::kStopToken && StripSpace(key_).empty()) {
    EndCall(events);
  }
  Emit(std::exchange(held_space_, {}), events);
}

void OutputParser::OnText(std::string_view text, Events& events) {
  if (text.empty()) return;
  switch (state_) {
    case State::kContent:
    case State::kThoughts:
    case State::kUndeclared:
      Say(text, events);
      return;
    case State::kName:
      ExtendName(text, events);
      return;
    case State::kArguments:
    case State::kKey:
      key_ += text;
      return;
    case State::kBeforeValue:
      return;
    case State::kValue: {
      // Most pieces of a value that is not a string give nothing: no event for those.
      std::string json;
      value_.Push(text, json);
      if (!json.empty()) ArgumentsJson(num_begun_ - 1, events) += json;
      return;
    }
  }
}

void OutputParser::OnTag(OutputTag tag, Events& events) {
  switch (state_) {
    case State::kContent:
    case State::kThoughts:
      OnTagInText(tag, events);
      return;
    case State::kName:
      OnTagInName(tag, events);
      return;
    case State::kArguments:
    case State::kKey:
    case State::kBeforeValue:
      OnTagInArguments(tag, events);
      return;
    case State::kValue:
      OnTagInValue(tag, events);
      return;
    case State::kUndeclared:
      OnTagInUndeclared(tag, events);
      return;
  }
}

void OutputParser::Say(std::string_view text, Events& events) {
  if (verbatim_) {
    Emit(text, events);
    return;
  }
  if (drop_space_) {
    while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
    if (text.empty()) return;
    drop_space_ = false;
  }
  size_t end = text.size();
  while (end > 0 && IsSpace(text[end - 1])) --end;
  if (end > 0) {
    Emit(std::exchange(held_space_, {}), events);
    Emit(text.substr(0, end), events);
  }
  held_space_ += text.substr(end);
}

void OutputParser::Emit(std::string_view text, Events& events) {
  if (state_ == State::kThoughts) {
    AppendText<ReasoningText>(text, events);
  } else {
    AppendText<ContentText>(text, events);
  }
}

void OutputParser::DropSpace() {
  held_space_.clear();
  drop_space_ = true;
}

void OutputParser::OnTagInText(OutputTag tag, Events& events) {
  switch (tag) {
    case OutputTag::kThinkBegin:
      DropSpace();
      state_ = State::kThoughts;
      return;
    case OutputTag::kThinkEnd:
      DropSpace();
      state_ = State::kContent;
      return;
    case OutputTag::kCallBegin:
      // White space before the tag is kept until it is clear that this is a call.
      if (state_ == State::kThoughts) DropSpace();
      ExpectName();
      return;
    default:
      Say(OutputTagText(tag), events);
  }
}

void OutputParser::ExpectName() {
  state_ = State::kName;
  name_.clear();
  name_begin_ = 0;
  name_may_end_ = false;
}

std::string_view OutputParser::NameText() const {
  return std::string_view(name_).substr(name_begin_);
}

void OutputParser::ExtendName(std::string_view text, Events& events) {
  name_ += text;
  while (name_begin_ < name_.size() && IsSpace(name_[name_begin_])) ++name_begin_;
  // After a declared name anything may follow: the first key, if its <arg_key> was forgotten.
  if (name_may_end_) return;
  name_may_end_ = options_.tools->FindLongestPrefixOf(NameText()) != nullptr;
  if (name_may_end_ || options_.tools->HasNameBeginningWith(NameText())) return;
  BeginUndeclared(events);
}

// What looked like a call is content.
void OutputParser::GiveUpName(Events& events) {
  state_ = State::kContent;
  Say(OutputTagText(OutputTag::kCallBegin), events);
  Say(name_, events);
}

void OutputParser::BeginUndeclared(Events& events) {
  GiveUpName(events);
  state_ = State::kUndeclared;
  in_undeclared_value_ = false;
  ++num_undeclared_;
}

void OutputParser::OnTagInName(OutputTag tag, Events& events) {
  const std::string_view text = StripSpace(NameText());
  switch (tag) {
    case OutputTag::kKeyBegin:
    case OutputTag::kCallEnd:
      if (const DeclaredTool* tool = options_.tools->Find(text)) {
        BeginCall(*tool, {}, events);
        OnTag(tag, events);
        return;
      }
      break;
    case OutputTag::kKeyEnd:
    case OutputTag::kValueBegin: {
      // The first <arg_key> was forgotten: the name ends with its line, or where a declared name
      // ends.
      const size_t line = text.find('\n');
      if (line != std::string_view::npos) {
        if (const DeclaredTool* tool = options_.tools->Find(StripSpace(text.substr(0, line)))) {
          BeginCall(*tool, text.substr(line), events);
          OnTag(tag, events);
          return;
        }
      }
      if (const DeclaredTool* tool = options_.tools->FindLongestPrefixOf(text)) {
        BeginCall(*tool, text.substr(tool->name.size()), events);
        OnTag(tag, events);
        return;
      }
      break;
    }
    case OutputTag::kCallBegin:
      GiveUpName(events);
      ExpectName();
      return;
    default:
      break;
  }
  BeginUndeclared(events);
  OnTag(tag, events);
}

void OutputParser::BeginCall(const DeclaredTool& tool, std::string_view key, Events& events) {
  DropSpace();
  const int index = num_begun_++;
  events.push_back(
      CallBegin{index, options_.call_id ? options_.call_id(index) : std::string(), tool.name});
  tool_ = &tool;
  has_arguments_ = false;
  key_ = key;
  state_ = State::kArguments;
}

// kArguments and kKey differ in what the end of the output means.
void OutputParser::OnTagInArguments(OutputTag tag, Events& events) {
  switch (tag) {
    case OutputTag::kKeyBegin:
      key_.clear();
      state_ = State::kKey;
      return;
    case OutputTag::kKeyEnd:
      state_ = State::kBeforeValue;
      return;
    case OutputTag::kValueBegin:
      BeginValue(events);
      return;
    case OutputTag::kValueEnd:
      key_.clear();
      state_ = State::kArguments;
      return;
    case OutputTag::kCallEnd:
      EndCall(events);
      return;
    case OutputTag::kCallBegin:
      EndCall(events);
      ExpectName();
      return;
    case OutputTag::kThinkBegin:
    case OutputTag::kThinkEnd:
      OnText(OutputTagText(tag), events);
  }
}

void OutputParser::BeginValue(Events& events) {
  const std::string_view key = StripSpace(key_);
  std::string& json = ArgumentsJson(num_begun_ - 1, events);
  json.push_back(std::exchange(has_arguments_, true) ? ',' : '{');
  AppendJsonString(key, json);
  json.push_back(':');
  value_.Begin(tool_->parameters.Of(key), json);
  state_ = State::kValue;
}

void OutputParser::OnTagInValue(OutputTag tag, Events& events) {
  if (tag != OutputTag::kValueEnd && tag != OutputTag::kCallEnd) {
    OnText(OutputTagText(tag), events);
    return;
  }
  value_.Finish(ArgumentsJson(num_begun_ - 1, events));
  key_.clear();
  state_ = State::kArguments;
  if (tag == OutputTag::kCallEnd) EndCall(events);
}

void OutputParser::EndCall(Events& events) {
  const int index = num_begun_ - 1;
  ArgumentsJson(index, events) += has_arguments_ ? "}" : "{}";
  events.push_back(CallEnd{index});
  ++num_complete_;
  DropSpace();
  state_ = State::kContent;
}

void OutputParser::OnTagInUndeclared(OutputTag tag, Events& events) {
  if (tag == OutputTag::kCallBegin && !in_undeclared_value_) {
    ExpectName();
    return;
  }
  Say(OutputTagText(tag), events);
  if (tag == OutputTag::kValueBegin) in_undeclared_value_ = true;
  if (tag == OutputTag::kValueEnd) in_undeclared_value_ = false;
  if (tag == OutputTag::kCallEnd) state_ = State::kContent;
}

}  // namespace sheaf
