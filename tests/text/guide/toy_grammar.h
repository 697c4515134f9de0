#pragma once
// A grammar over tokens for tests: so many places, each with the tokens that it may hold. A place
// with one token is forced. Errors on request.

#include <algorithm>
#include <memory>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "router/text/guide/output_grammar.h"

namespace sheaf::testing {

struct ToyGrammarSpec {
  std::vector<std::vector<TokenId>> places;
  // May also end before these places.
  std::set<size_t> complete_before{};
  // ComputeMask, or Accept, fails at this place.
  int mask_fails_at = -1;
  int accept_fails_at = -1;
  bool start_fails = false;
  // The end is known as such only when the mask is computed, as with some real grammars.
  bool end_is_found_late = false;
};

class ToyGrammar final : public OutputGrammar {
 public:
  explicit ToyGrammar(ToyGrammarSpec spec)
      : spec_(std::make_shared<const ToyGrammarSpec>(std::move(spec))) {}

  absl::StatusOr<std::unique_ptr<OutputGrammarState>> Start() const override {
    if (spec_->start_fails) return absl::ResourceExhaustedError("toy grammar: too large");
    return std::make_unique<State>(spec_);
  }

  // Whether `tokens` is one of its texts.
  bool Matches(const std::vector<TokenId>& tokens) const {
    if (tokens.size() > spec_->places.size()) return false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::vector<TokenId>& place = spec_->places[i];
      if (std::find(place.begin(), place.end(), tokens[i]) == place.end()) return false;
    }
    return tokens.size() == spec_->places.size() || spec_->complete_before.contains(tokens.size());
  }

 private:
  class State final : public OutputGrammarState {
   public:
    explicit State(std::shared_ptr<const ToyGrammarSpec> spec) : spec_(std::move(spec)) {}

    absl::Status ComputeMask(std::span<uint32_t> mask) override {
      if (static_cast<int>(place_) == spec_->mask_fails_at) {
        return absl::ResourceExhaustedError("toy grammar: the mask is too hard");
      }
      std::fill(mask.begin(), mask.end(), 0);
      mask_computed_ = true;
      if (AtEnd()) return absl::OkStatus();
      for (const TokenId id : spec_->places[place_]) mask[id / 32] |= 1u << (id % 32);
      return absl::OkStatus();
    }
    absl::Status Accept(TokenId token) override {
      if (static_cast<int>(place_) == spec_->accept_fails_at) {
        return absl::ResourceExhaustedError("toy grammar: the token is too hard");
      }
      const bool allowed =
          !AtEnd() && std::find(spec_->places[place_].begin(), spec_->places[place_].end(),
                                token) != spec_->places[place_].end();
      if (!allowed) return absl::InvalidArgumentError("toy grammar: a token that the mask forbids");
      ++place_;
      mask_computed_ = false;
      return absl::OkStatus();
    }
    bool accepting() const override { return AtEnd() || spec_->complete_before.contains(place_); }
    bool finished() const override {
      return AtEnd() && (mask_computed_ || !spec_->end_is_found_late);
    }
    std::vector<TokenId> ForcedTokens() override {
      std::vector<TokenId> run;
      for (size_t i = place_; i < spec_->places.size(); ++i) {
        if (spec_->places[i].size() != 1 || spec_->complete_before.contains(i)) break;
        run.push_back(spec_->places[i][0]);
      }
      return run;
    }

   private:
    bool AtEnd() const { return place_ == spec_->places.size(); }

    const std::shared_ptr<const ToyGrammarSpec> spec_;
    size_t place_ = 0;
    bool mask_computed_ = false;
  };

  const std::shared_ptr<const ToyGrammarSpec> spec_;
};

// Places that hold one given token each.
inline std::vector<std::vector<TokenId>> Spelled(std::string_view text) {
  std::vector<std::vector<TokenId>> places;
  for (const char c : text) places.push_back({static_cast<unsigned char>(c)});
  return places;
}

}  // namespace sheaf::testing
