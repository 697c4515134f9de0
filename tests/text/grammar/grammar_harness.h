#pragma once
// Runs texts through grammars.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/grammar/grammar_compiler.h"
#include "router/text/grammar/grammar_matcher.h"
#include "tests/text/grammar/grammar_tokenizer.h"

namespace sheaf::testing {

inline bool IsAllowed(const std::vector<uint32_t>& mask, TokenId token) {
  return (mask[token / 32] >> (token % 32) & 1) != 0;
}

class GrammarHarness {
 public:
  explicit GrammarHarness(bool with_tags = true)
      : tokenizer_(MakeTokenizer(with_tags)),
        // As real models have them: rows beyond the tokenizer's ids.
        compiler_(*GrammarCompiler::Create(*tokenizer_, tokenizer_->VocabSize() + 50)) {}

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  GrammarCompiler& compiler() const { return *compiler_; }

  GrammarMatcher Matcher(const GrammarSpec& spec) const {
    return GrammarMatcher(*compiler_->Compile(spec));
  }

  // "ok", "incomplete", or "stuck at `the text that was taken`". Tags in `text` become tokens where
  // the tokenizer has them; the rest goes in byte by byte, so that no tokenization is preferred.
  std::string Run(const GrammarSpec& spec, std::string_view text) const {
    auto compiled = compiler_->Compile(spec);
    if (!compiled.ok()) return std::string(compiled.status().message());
    GrammarMatcher matcher(*compiled);
    std::string taken;
    while (taken.size() < text.size()) {
      const std::string_view rest = text.substr(taken.size());
      TokenId token = static_cast<unsigned char>(rest[0]);
      std::string_view piece = rest.substr(0, 1);
      for (const AddedToken& added : tokenizer_->AddedTokens()) {
        if (rest.starts_with(added.text)) {
          token = added.id;
          piece = added.text;
        }
      }
      const absl::Status status = matcher.Accept(token);
      if (!status.ok()) return "stuck at `" + taken + "`";
      taken += piece;
    }
    return matcher.accepting() ? "ok" : "incomplete";
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarCompiler> compiler_;
};

inline GrammarSpec Spec(GrammarKind kind, std::string text) {
  GrammarSpec spec;
  spec.kind = kind;
  spec.text = std::move(text);
  return spec;
}

}  // namespace sheaf::testing
