#pragma once
// Flags that every serving process has.

#include <string>

namespace sheaf {

struct ProcessOptions {
  std::string checkpoint;           // directory
  std::string cpu_target = "auto";  // kernels/simd/cpu_target.h
  std::string log_level = "info";   // debug, info, warn, error
  std::string log_format = "text";  // text, json
  int numa_node = -1;  // that it runs on and takes memory from, by the system's number; -1 = any
};

}  // namespace sheaf
