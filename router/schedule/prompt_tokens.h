#pragma once
// PromptTokens: the token ids of a prompt, shared by whoever has a copy: the choices of a request
// (n = 128 of 100,000 tokens) and their sequences hold them once.
//
// Reads like a vector. A change to one copy is not seen by others: it copies the tokens first if
// they are shared.
// Threads    as a vector: several may read, also different copies; a change needs the copy for
//            itself. Cost  Copy: O(1).

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace sheaf {

class PromptTokens {
 public:
  using value_type = TokenId;
  using const_iterator = const TokenId*;
  using iterator = const_iterator;
  using size_type = size_t;

  PromptTokens() = default;
  PromptTokens(std::vector<TokenId> tokens)  // NOLINT: a vector is what it stands for
      : tokens_(std::make_shared<std::vector<TokenId>>(std::move(tokens))) {}
  PromptTokens(std::initializer_list<TokenId> tokens)
      : PromptTokens(std::vector<TokenId>(tokens)) {}

  size_t size() const { return tokens_ == nullptr ? 0 : tokens_->size(); }
  bool empty() const { return size() == 0; }
  const TokenId* data() const { return tokens_ == nullptr ? nullptr : tokens_->data(); }
  const_iterator begin() const { return data(); }
  const_iterator end() const { return data() + size(); }
  const TokenId& operator[](size_t i) const { return (*tokens_)[i]; }
  const TokenId& at(size_t i) const { return tokens_->at(i); }

  void push_back(TokenId token) { Own().push_back(token); }
  void Set(size_t i, TokenId token) { Own()[i] = token; }
  void clear() { tokens_.reset(); }

  friend bool operator==(const PromptTokens& a, const PromptTokens& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::vector<TokenId>& Own() {
    if (tokens_ == nullptr) {
      tokens_ = std::make_shared<std::vector<TokenId>>();
    } else if (tokens_.use_count() > 1) {
      tokens_ = std::make_shared<std::vector<TokenId>>(*tokens_);
    }
    return *tokens_;
  }

  std::shared_ptr<std::vector<TokenId>> tokens_;
};

}  // namespace sheaf
