#include "model/module_patterns.h"

#include <re2/re2.h>

namespace sheaf {
namespace {

// Of one expression: its program and the automaton that runs it.
constexpr int64_t kMaxExpressionMemoryBytes = 1 << 20;
constexpr size_t kShownBytes = 60;

constexpr std::string_view kFromStart = "re:";
constexpr std::string_view kAnywhere = "search:";

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

re2::StringPiece Piece(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

ModulePatterns::ModulePatterns(const std::vector<std::string>& entries) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMaxExpressionMemoryBytes);
  options.set_never_capture(true);
  int steps = 0;
  for (const std::string& entry : entries) {
    const bool from_start = StartsWith(entry, kFromStart);
    if (!from_start && !StartsWith(entry, kAnywhere)) {
      names_.insert(entry);
      continue;
    }
    const std::string_view text =
        std::string_view(entry).substr(from_start ? kFromStart.size() : kAnywhere.size());
    const auto leave_out = [&](const std::string& why) {
      unread_.push_back(std::string(text.substr(0, kShownBytes)) + ": " + why);
    };
    if (text.size() > kMaxExpressionBytes) {
      leave_out("longer than " + std::to_string(kMaxExpressionBytes) + " bytes");
      continue;
    }
    if (steps >= kMaxProgramSteps) {
      leave_out("the expressions before it are too large already");
      continue;
    }
    auto compiled = std::make_unique<re2::RE2>(Piece(text), options);
    if (!compiled->ok()) {
      leave_out(compiled->error());
      continue;
    }
    steps += compiled->ProgramSize();
    expressions_.push_back({from_start, std::move(compiled)});
  }
}

ModulePatterns::ModulePatterns(ModulePatterns&&) noexcept = default;
ModulePatterns::~ModulePatterns() = default;

bool ModulePatterns::MatchesName(std::string_view module) const {
  for (std::string_view rest = module;;) {
    if (names_.count(std::string(rest)) != 0) return true;
    const size_t dot = rest.find('.');
    if (dot == std::string_view::npos) return false;
    rest.remove_prefix(dot + 1);
  }
}

bool ModulePatterns::Matches(std::string_view module) const {
  if (MatchesName(module)) return true;
  const re2::StringPiece text = Piece(module);
  for (const Expression& expression : expressions_) {
    const auto anchor = expression.from_start ? re2::RE2::ANCHOR_START : re2::RE2::UNANCHORED;
    if (expression.compiled->Match(text, 0, text.size(), anchor, nullptr, 0)) return true;
  }
  return false;
}

}  // namespace sheaf
