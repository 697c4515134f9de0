// Any text as config.json and generation_config.json (divided at the first zero byte): an error or
// a config whose values are in range, never a crash.

#include <cstdlib>
#include <string_view>

#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t divide = text.find('\0');
  const std::string_view generation =
      divide == std::string_view::npos ? "" : text.substr(divide + 1);
  const auto config = sheaf::ParseModelConfig(text.substr(0, divide), generation, "fuzz");
  if (!config.ok()) return 0;
  if (config->hidden_size < 1 || config->num_layers < 1 || config->num_heads < 1 ||
      config->num_dense_layers > config->num_layers) {
    std::abort();
  }
  if (const auto* const grouped = std::get_if<sheaf::GroupedQueryShape>(&config->attention)) {
    if (config->num_heads % grouped->num_kv_heads != 0 || grouped->rotary_dim > grouped->head_dim)
      std::abort();
  } else {
    const auto& latent = std::get<sheaf::LatentShape>(config->attention);
    const bool sparse = latent.indexer.topk > 0;
    if (latent.indexer.is_full.size() != static_cast<size_t>(config->num_layers) ||
        latent.indexer.is_full.front() != sparse ||
        (sparse && latent.rope_dim > latent.indexer.head_dim) ||
        (sparse && latent.q_lora_rank < 1)) {
      std::abort();
    }
  }
  return 0;
}
