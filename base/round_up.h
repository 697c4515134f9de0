#pragma once
// RoundUp: the smallest multiple of `unit` that is not below x. x >= 0, unit > 0.
//
// Threads    pure.

namespace sheaf {

template <typename Integer>
constexpr Integer RoundUp(Integer x, Integer unit) {
  return (x + unit - 1) / unit * unit;
}

}  // namespace sheaf
