#pragma once
// Flags that every serving process has.

#include <string>

namespace sheaf {

struct ProcessOptions {
  std::string checkpoint;           // directory
  std::string cpu_target = "auto";  // kernels/simd/cpu_target.h
  std::string log_level = "info";   // debug, info, warn, error
  std::string log_format = "text";  // text, json
};

}  // namespace sheaf
