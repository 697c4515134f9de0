#include "model/quantization/module_regex.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace sheaf {
namespace {

using Instruction = ModuleRegex::Instruction;
using Op = ModuleRegex::Op;
using ByteSet = ModuleRegex::ByteSet;
using Fragment = std::vector<Instruction>;

constexpr int kMaxDepth = 32;
constexpr int kMaxRepeat = 1000;
constexpr int kUnbounded = -1;

ByteSet Range(uint8_t first, uint8_t last) {
  ByteSet set;
  for (int byte = first; byte <= last; ++byte) set.set(static_cast<size_t>(byte));
  return set;
}

ByteSet WordBytes() {
  return Range('0', '9') | Range('a', 'z') | Range('A', 'Z') | Range('_', '_');
}

bool IsWord(char c) { return WordBytes().test(static_cast<uint8_t>(c)); }

std::optional<ByteSet> NamedClass(char letter) {
  switch (letter) {
    case 'd':
      return Range('0', '9');
    case 'D':
      return ~Range('0', '9');
    case 'w':
      return WordBytes();
    case 'W':
      return ~WordBytes();
    case 's':
      return Range('\t', '\r') | Range(' ', ' ');
    case 'S':
      return ~(Range('\t', '\r') | Range(' ', ' '));
    default:
      return std::nullopt;
  }
}

// Recursive descent; every piece is a fragment whose jumps are relative, so that it can be copied.
class Parser {
 public:
  Parser(std::string_view text, std::vector<ByteSet>& sets) : text_(text), sets_(sets) {}

  std::optional<Fragment> Parse() {
    auto whole = Alternatives(0);
    if (!whole || at_ != text_.size()) return std::nullopt;
    whole->push_back({Op::kMatch});
    return whole;
  }

 private:
  bool AtEnd() const { return at_ >= text_.size(); }
  bool Take(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  static bool Append(Fragment& to, const Fragment& part) {
    if (to.size() + part.size() > ModuleRegex::kMaxInstructions) return false;
    to.insert(to.end(), part.begin(), part.end());
    return true;
  }

  std::optional<Fragment> Alternatives(int depth) {
    if (depth > kMaxDepth) return std::nullopt;
    std::vector<Fragment> choices;
    do {
      auto choice = Sequence(depth);
      if (!choice) return std::nullopt;
      choices.push_back(*std::move(choice));
    } while (Take("|"));
    Fragment out = std::move(choices.back());
    for (size_t i = choices.size() - 1; i-- > 0;) {
      Fragment both = {{Op::kSplit, 1, static_cast<int>(choices[i].size()) + 2}};
      if (!Append(both, choices[i])) return std::nullopt;
      both.push_back({Op::kJump, static_cast<int>(out.size()) + 1});
      if (!Append(both, out)) return std::nullopt;
      out = std::move(both);
    }
    return out;
  }

  std::optional<Fragment> Sequence(int depth) {
    Fragment out;
    while (!AtEnd() && text_[at_] != '|' && text_[at_] != ')') {
      auto atom = Atom(depth);
      if (!atom) return std::nullopt;
      auto repeated = Repeated(*std::move(atom));
      if (!repeated || !Append(out, *repeated)) return std::nullopt;
    }
    return out;
  }

  std::optional<Fragment> Atom(int depth) {
    if (text_[at_] == '(') return Group(depth);
    if (text_[at_] == '[') return Class();
    const char c = text_[at_++];
    switch (c) {
      case '^':
        return Fragment{{Op::kTextStart}};
      case '$':
        return Fragment{{Op::kTextEnd}};
      case '.':
        return Bytes(~Range('\n', '\n'));
      case '*':
      case '+':
      case '?':
        return std::nullopt;  // nothing to repeat
      case '\\':
        return Escape();
      default:
        return Bytes(Range(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
    }
  }

  std::optional<Fragment> Escape() {
    if (AtEnd()) return std::nullopt;
    const char c = text_[at_++];
    if (const auto set = NamedClass(c)) return Bytes(*set);
    if (c == 'b' || c == 'B') return Fragment{{Op::kWordEdge, c == 'B' ? 1 : 0}};
    if (c == 'A') return Fragment{{Op::kTextStart}};
    if (c == 'Z') return Fragment{{Op::kTextEnd}};
    if (IsWord(c) && c != '_') return std::nullopt;  // a backreference, or a letter's own meaning
    return Bytes(Range(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
  }

  std::optional<Fragment> Group(int depth) {
    ++at_;
    bool look = false, negative = false;
    if (Take("?")) {
      if (Take("P<")) {
        const size_t end = text_.find('>', at_);
        if (end == std::string_view::npos) return std::nullopt;
        at_ = end + 1;
      } else if (Take("=") || Take("!")) {
        look = true;
        negative = text_[at_ - 1] == '!';
      } else if (!Take(":")) {
        return std::nullopt;
      }
    }
    // A lookahead in another would make time a power of the text's length.
    if (look && std::exchange(in_look_, true)) return std::nullopt;
    auto body = Alternatives(depth + 1);
    if (!body || !Take(")")) return std::nullopt;
    if (!look) return body;
    in_look_ = false;
    Fragment out = {{Op::kLook, static_cast<int>(body->size()) + 2, negative ? 1 : 0}};
    if (!Append(out, *body)) return std::nullopt;
    out.push_back({Op::kMatch});
    return out;
  }

  std::optional<Fragment> Class() {
    ++at_;
    const bool negative = Take("^");
    ByteSet set;
    for (bool first = true;; first = false) {
      if (AtEnd()) return std::nullopt;
      if (text_[at_] == ']' && !first) break;
      const auto from = ClassByte(set);
      if (!from) return std::nullopt;
      if (*from < 0 || text_.substr(at_, 1) != "-" || text_.substr(at_ + 1, 1) == "]") {
        if (*from >= 0) set.set(static_cast<size_t>(*from));
        continue;
      }
      ++at_;
      if (AtEnd()) return std::nullopt;
      const auto to = ClassByte(set);
      if (!to || *to < *from) return std::nullopt;
      set |= Range(static_cast<uint8_t>(*from), static_cast<uint8_t>(*to));
    }
    ++at_;
    return Bytes(negative ? ~set : set);
  }

  // One byte of a class, or -1 for a named class, which joins the set.
  std::optional<int> ClassByte(ByteSet& set) {
    char c = text_[at_++];
    if (c != '\\') return static_cast<uint8_t>(c);
    if (AtEnd()) return std::nullopt;
    c = text_[at_++];
    if (const auto named = NamedClass(c)) {
      set |= *named;
      return -1;
    }
    if (IsWord(c) && c != '_') return std::nullopt;
    return static_cast<uint8_t>(c);
  }

  Fragment Bytes(const ByteSet& set) {
    const auto known = std::find(sets_.begin(), sets_.end(), set);
    const auto index = static_cast<int>(known - sets_.begin());
    if (known == sets_.end()) sets_.push_back(set);
    return {{Op::kByte, index}};
  }

  // {m}, {m,}, {,n}, {m,n}; anything else is a literal brace, as in Python.
  bool TakeCounts(int& least, int& most) {
    const size_t end = text_.find('}', at_);
    if (text_.substr(at_, 1) != "{" || end == std::string_view::npos) return false;
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    const size_t comma = inside.find(',');
    const auto number = [](std::string_view digits, int absent) {
      if (digits.empty()) return absent;
      int value = 0;
      const auto [stop, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), value);
      return error == std::errc() && stop == digits.data() + digits.size() ? value : -2;
    };
    if (inside.empty() || inside == ",") return false;
    least = number(inside.substr(0, comma), 0);
    most = comma == std::string_view::npos ? least : number(inside.substr(comma + 1), kUnbounded);
    if (least < 0 || most < kUnbounded) return false;
    at_ = end + 1;
    return true;
  }

  std::optional<Fragment> Repeated(Fragment atom) {
    int least = 1, most = 1;
    if (Take("*")) {
      least = 0;
      most = kUnbounded;
    } else if (Take("+")) {
      most = kUnbounded;
    } else if (Take("?")) {
      least = 0;
    } else if (!TakeCounts(least, most)) {
      return atom;
    }
    if (!Take("?")) Take("+");  // lazy or possessive: which match it is does not matter
    if (!AtEnd() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?'))
      return std::nullopt;
    if (least > kMaxRepeat || most > kMaxRepeat || (most != kUnbounded && most < least))
      return std::nullopt;
    const int size = static_cast<int>(atom.size());
    Fragment out;
    for (int i = 0; i < least; ++i) {
      if (!Append(out, atom)) return std::nullopt;
    }
    if (most == kUnbounded) {
      out.push_back({Op::kSplit, 1, size + 2});
      if (!Append(out, atom)) return std::nullopt;
      out.push_back({Op::kJump, -(size + 1)});
      return out;
    }
    for (int i = least; i < most; ++i) {
      out.push_back({Op::kSplit, 1, size + 1});
      if (!Append(out, atom)) return std::nullopt;
    }
    return out;
  }

  const std::string_view text_;
  std::vector<ByteSet>& sets_;
  size_t at_ = 0;
  bool in_look_ = false;
};

}  // namespace

// The states that the expression may be in, byte after byte.
class ModuleRegex::Run {
 public:
  Run(const ModuleRegex& regex, std::string_view text)
      : program_(regex.program_), sets_(regex.sets_), text_(text) {}

  bool From(int start, size_t position, bool anywhere) const {
    std::vector<int> states, next, pending;
    std::vector<uint32_t> seen(program_.size(), 0);
    uint32_t stamp = 1;
    bool matched = false;
    const auto enter = [&](int state, size_t at, std::vector<int>& into) {
      pending.push_back(state);
      while (!pending.empty()) {
        const int pc = pending.back();
        pending.pop_back();
        if (std::exchange(seen[static_cast<size_t>(pc)], stamp) == stamp) continue;
        const Instruction& step = program_[static_cast<size_t>(pc)];
        switch (step.op) {
          case Op::kByte:
            into.push_back(pc);
            break;
          case Op::kSplit:
            pending.push_back(pc + step.a);
            pending.push_back(pc + step.b);
            break;
          case Op::kJump:
            pending.push_back(pc + step.a);
            break;
          case Op::kTextStart:
            if (at == 0) pending.push_back(pc + 1);
            break;
          case Op::kTextEnd:
            if (at == text_.size()) pending.push_back(pc + 1);
            break;
          case Op::kWordEdge:
            if (AtWordEdge(at) == (step.a == 0)) pending.push_back(pc + 1);
            break;
          case Op::kLook:
            if (From(pc + 1, at, false) == (step.b == 0)) pending.push_back(pc + step.a);
            break;
          case Op::kMatch:
            matched = true;
            break;
        }
      }
    };
    enter(start, position, states);
    for (size_t at = position; !matched && at < text_.size(); ++at) {
      ++stamp;
      next.clear();
      for (const int pc : states) {
        const ByteSet& set = sets_[static_cast<size_t>(program_[static_cast<size_t>(pc)].a)];
        if (set.test(static_cast<uint8_t>(text_[at]))) enter(pc + 1, at + 1, next);
      }
      if (anywhere) enter(start, at + 1, next);
      std::swap(states, next);
      if (states.empty() && !anywhere) break;
    }
    return matched;
  }

 private:
  bool AtWordEdge(size_t at) const {
    const bool before = at > 0 && IsWord(text_[at - 1]);
    const bool after = at < text_.size() && IsWord(text_[at]);
    return before != after;
  }

  const std::vector<Instruction>& program_;
  const std::vector<ByteSet>& sets_;
  const std::string_view text_;
};

std::optional<ModuleRegex> ModuleRegex::Compile(std::string_view expression) {
  ModuleRegex regex;
  auto program = Parser(expression, regex.sets_).Parse();
  if (!program || program->size() > kMaxInstructions) return std::nullopt;
  regex.program_ = *std::move(program);
  return regex;
}

bool ModuleRegex::Matches(std::string_view text) const {
  return Run(*this, text).From(0, 0, false);
}

bool ModuleRegex::Searches(std::string_view text) const {
  return Run(*this, text).From(0, 0, true);
}

}  // namespace sheaf
