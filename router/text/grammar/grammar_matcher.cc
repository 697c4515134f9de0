#include "router/text/grammar/grammar_matcher.h"

#include <utility>

#include "base/check.h"
#include "router/text/grammar/compiled_grammar.h"
#include "router/text/rust_bridge.h"

namespace sheaf {
namespace {

SheafGrammar* Copy(const SheafGrammar* grammar) {
  SheafGrammar* copy = nullptr;
  SheafBuffer error{};
  const SheafTextCode code = sheaf_grammar_clone(grammar, &copy, &error);
  SHEAF_CHECK(code == SHEAF_TEXT_OK, "copying cannot fail: it only allocates");
  return copy;
}

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), state_(Copy(grammar_->start())) {}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar, SheafGrammar* state)
    : grammar_(std::move(grammar)), state_(state) {}

GrammarMatcher::~GrammarMatcher() { sheaf_grammar_free(state_); }

GrammarMatcher::GrammarMatcher(GrammarMatcher&& other) noexcept
    : grammar_(std::move(other.grammar_)), state_(std::exchange(other.state_, nullptr)) {}

GrammarMatcher& GrammarMatcher::operator=(GrammarMatcher&& other) noexcept {
  if (this == &other) return *this;
  sheaf_grammar_free(state_);
  grammar_ = std::move(other.grammar_);
  state_ = std::exchange(other.state_, nullptr);
  return *this;
}

GrammarMatcher GrammarMatcher::Clone() const { return GrammarMatcher(grammar_, Copy(state_)); }

void GrammarMatcher::Reset() {
  sheaf_grammar_free(state_);
  state_ = nullptr;
  state_ = Copy(grammar_->start());
}

size_t GrammarMatcher::MaskWords() const { return (grammar_->vocab_size() + 31) / 32; }

absl::Status GrammarMatcher::ComputeMask(std::span<uint32_t> mask) {
  SHEAF_CHECK(mask.size() >= MaskWords(), "the caller sizes it by MaskWords()");
  SheafBuffer error{};
  const SheafTextCode code = sheaf_grammar_mask(state_, mask.data(), mask.size(), &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "grammar");
  return absl::OkStatus();
}

absl::Status GrammarMatcher::Accept(TokenId token) {
  SheafBuffer error{};
  // Ids are not negative in the ABI; a negative one becomes an id that no vocabulary has.
  const SheafTextCode code = sheaf_grammar_accept(state_, static_cast<uint32_t>(token), &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "grammar");
  return absl::OkStatus();
}

bool GrammarMatcher::accepting() const { return sheaf_grammar_accepting(state_); }

bool GrammarMatcher::finished() const { return sheaf_grammar_finished(state_); }

std::vector<TokenId> GrammarMatcher::ForcedTokens() {
  SheafIds ids{};
  SheafBuffer error{};
  const SheafTextCode code = sheaf_grammar_forced(state_, &ids, &error);
  if (code != SHEAF_TEXT_OK) {
    // The next ComputeMask or Accept says the same as a Status.
    sheaf_text_free_buffer(error);
    return {};
  }
  std::vector<TokenId> tokens(ids.data, ids.data + ids.size);
  sheaf_text_free_ids(ids);
  return tokens;
}

}  // namespace sheaf
