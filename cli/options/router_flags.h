#pragma once
// The flags of a router: of `sheaf serve` and of `sheaf router`.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/options/options.h"

namespace CLI {
class App;
}

namespace sheaf {

// Values that need a conversion after parsing.
struct RouterFlagTexts {
  std::string kv_cache_dtype = "auto";
  int activation_bits = 16;
  std::string combine_format = "float32";
  std::string latent_cache = "split";
  std::string speculative_config;
  std::string metrics_compat = "vllm";
  int64_t seed = -1;
  std::vector<std::string> allowed_origins;
  bool ui = false;
  bool no_ui = false;
};

// `options` and `texts` are written when `app` parses, and must live until then.
void AddRouterFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts);

// After parsing: the conversions, and flags that do not go together.
absl::Status FinishRouter(RouterOptions& options, const RouterFlagTexts& texts);

}  // namespace sheaf
