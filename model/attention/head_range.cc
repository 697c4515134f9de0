#include "model/attention/head_range.h"

#include <variant>

namespace sheaf {

HeadRange WholeHeads(const ModelConfig& config, int first, int count) {
  const auto* const grouped = std::get_if<GroupedQueryShape>(&config.attention);
  const int queries = grouped != nullptr ? config.num_heads / grouped->num_kv_heads : 1;
  return {first, count, first * queries, count * queries};
}

HeadRange AllHeads(const ModelConfig& config) {
  const auto* const grouped = std::get_if<GroupedQueryShape>(&config.attention);
  return WholeHeads(config, 0, grouped != nullptr ? grouped->num_kv_heads : config.num_heads);
}

}  // namespace sheaf
