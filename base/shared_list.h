#pragma once
// SharedList<T>: a list that is written once and then shared by its copies: a request's own wishes
// stand in each of its choices, and some of them are as long as the vocabulary.
//
// Threads    as a value; copies on several threads share constant elements.
// Cost       copying O(1); assign and construction O(n).

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace sheaf {

template <typename T>
class SharedList {
 public:
  using value_type = T;
  using const_iterator = const T*;

  SharedList() = default;
  explicit SharedList(std::vector<T> items) {
    if (!items.empty()) items_ = std::make_shared<const std::vector<T>>(std::move(items));
  }
  SharedList(std::initializer_list<T> items) : SharedList(std::vector<T>(items)) {}

  bool empty() const { return items_ == nullptr; }
  size_t size() const { return items_ ? items_->size() : 0; }
  const T* data() const { return items_ ? items_->data() : nullptr; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size(); }
  void clear() { items_.reset(); }

  friend bool operator==(const SharedList& a, const SharedList& b) {
    return a.items_ == b.items_ || (a.items_ && b.items_ && *a.items_ == *b.items_);
  }

 private:
  std::shared_ptr<const std::vector<T>> items_;  // null: empty
};

}  // namespace sheaf
