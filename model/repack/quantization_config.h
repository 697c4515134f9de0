#pragma once
// The quantization_config object that says what a repacked checkpoint is, in the words of the tool
// whose format it is: GPTQModel, AutoRound, llm-compressor.
//
// Threads: pure. Errors: none.

#include <string>
#include <vector>

#include "model/repack/file_linear.h"
#include "nlohmann/json.hpp"

namespace sheaf {

struct QuantizationFacts {
  int group_size = 128;  // -1 = a group is a row
  bool symmetric = true;
  bool desc_act = false;                 // some Linear's inputs are grouped out of order
  std::vector<std::string> unquantized;  // module names of plain Linears, ascending
};

nlohmann::ordered_json QuantizationConfig(const QuantizationFacts& facts, RepackFormat format);

}  // namespace sheaf
