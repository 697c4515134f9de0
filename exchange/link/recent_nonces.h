#pragma once
// RecentNonces: the routers' nonces of the last links of a listener, to tell a replayed hello from
// a wrong one. Only who knew the key gets in, so that nobody else can push them out.
//
// Bounds     kKept of them. Threads: one. Cost: a search among kKept.

#include <cstddef>
#include <deque>
#include <set>

#include "exchange/link/link_keys.h"

namespace sheaf {

class RecentNonces {
 public:
  bool Has(const LinkNonce& nonce) const { return known_.count(nonce) != 0; }
  void Add(const LinkNonce& nonce) {
    if (!known_.insert(nonce).second) return;
    order_.push_back(nonce);
    if (order_.size() <= kKept) return;
    known_.erase(order_.front());
    order_.pop_front();
  }

 private:
  static constexpr size_t kKept = 4096;
  std::set<LinkNonce> known_;
  std::deque<LinkNonce> order_;  // oldest first
};

}  // namespace sheaf
