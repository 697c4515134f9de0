#pragma once
// One frame of `sheaf top`: what GET /sheaf/v1/pool said, as lines for a terminal. Pure.
//
// Rates and mean times are of the time between two answers; without an earlier one they are "-".
// Fields that an answer lacks are shown as 0 or left out; texts cannot control the terminal.

#include <string>

#include "nlohmann/json.hpp"

namespace sheaf {

struct TopStyle {
  int columns = 0;  // longer lines are cut; 0 = none is
  int rows = 0;     // further lines are left out, with a word; 0 = none is
  bool colour = false;
};

// `before`: null, or the answer of the same router `seconds` earlier.
std::string TopFrame(const nlohmann::json& now, const nlohmann::json* before, double seconds,
                     const TopStyle& style);

}  // namespace sheaf
