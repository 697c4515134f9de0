#pragma once
// PositionChoice: the positions of its sequence that a token attends to.

#include <cstdint>

namespace sheaf {

struct PositionChoice {
  const int32_t* positions = nullptr;  // ascending; null: 0 .. count - 1
  int count = 0;

  int32_t at(int i) const { return positions == nullptr ? i : positions[i]; }
};

}  // namespace sheaf
