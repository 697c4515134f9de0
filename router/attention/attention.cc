#include "router/attention/attention.h"

#include "router/attention/grouped_query/grouped_query_attention.h"
#include "router/attention/latent/latent_attention.h"

namespace sheaf {

std::unique_ptr<Attention> MakeAttention(const AttentionParts& parts) {
  if (std::holds_alternative<LatentShape>(parts.config.attention)) {
    return std::make_unique<LatentAttention>(parts);
  }
  return std::make_unique<GroupedQueryAttention>(parts);
}

}  // namespace sheaf
