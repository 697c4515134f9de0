#include "cli/options/lm_head_flag.h"

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "cli/options/one_of.h"

namespace sheaf {

void AddLmHeadFlag(CLI::App& app, LmHeadDtype& dtype) {
  std::map<std::string, LmHeadDtype> kinds;
  for (const LmHeadDtype kind : {LmHeadDtype::kAuto, LmHeadDtype::kInt8}) {
    kinds[std::string(LmHeadDtypeName(kind))] = kind;
  }
  app.add_option("--lm-head-dtype", dtype,
                 "What lm_head is kept as: auto (as the checkpoint has it), or int8: floats become "
                 "8-bit integers when they are loaded, in groups of 128 with a scale. Half of "
                 "bf16's bytes, for an error of 0.7 % of the logits' spread")
      ->transform(OneOf(kinds))
      ->default_str(std::string(LmHeadDtypeName(dtype)));
}

}  // namespace sheaf
