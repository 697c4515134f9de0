#include "router/text/guide/matcher_grammar.h"

#include <utility>

#include "router/text/grammar/grammar_matcher.h"

namespace sheaf {
namespace {

class MatcherState final : public OutputGrammarState {
 public:
  explicit MatcherState(std::shared_ptr<const CompiledGrammar> compiled)
      : matcher_(std::move(compiled)) {}

  absl::Status ComputeMask(std::span<uint32_t> mask) override { return matcher_.ComputeMask(mask); }
  absl::Status Accept(TokenId token) override { return matcher_.Accept(token); }
  bool accepting() const override { return matcher_.accepting(); }
  bool finished() const override { return matcher_.finished(); }
  std::vector<TokenId> ForcedTokens() override { return matcher_.ForcedTokens(); }

 private:
  GrammarMatcher matcher_;
};

class MatcherGrammar final : public OutputGrammar {
 public:
  explicit MatcherGrammar(std::shared_ptr<const CompiledGrammar> compiled)
      : compiled_(std::move(compiled)) {}

  absl::StatusOr<std::unique_ptr<OutputGrammarState>> Start() const override {
    return std::make_unique<MatcherState>(compiled_);
  }

 private:
  const std::shared_ptr<const CompiledGrammar> compiled_;
};

}  // namespace

std::shared_ptr<const OutputGrammar> MakeOutputGrammar(
    std::shared_ptr<const CompiledGrammar> compiled) {
  return std::make_shared<MatcherGrammar>(std::move(compiled));
}

}  // namespace sheaf
