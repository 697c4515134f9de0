#include "model/rank_share.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {
namespace {

// Part `index` of `count` parts of 0..total, as even as whole units are. The last unit may be
// shorter.
IndexRange EvenPart(int total, int unit, int index, int count) {
  const int64_t units = (total + unit - 1) / unit;
  const int first = static_cast<int>(units * index / count) * unit;
  const int end = std::min(total, static_cast<int>(units * (index + 1) / count) * unit);
  return {first, end - first};
}

// Whole activation groups where every rank gets one.
IndexRange InnerPart(int width, int rank, int num_ranks) {
  const int group = kernels::kActivationGroup;
  return EvenPart(width, kernels::NumGroups(width) >= num_ranks ? group : 1, rank, num_ranks);
}

HeadRange HeadsOf(const GroupedQueryShape& shape, int num_heads, int rank, int num_ranks) {
  const int per_kv = num_heads / shape.num_kv_heads;
  if (num_ranks <= shape.num_kv_heads) {
    const IndexRange kv = EvenPart(shape.num_kv_heads, 1, rank, num_ranks);
    return {kv.first, kv.count, kv.first * per_kv, kv.count * per_kv};
  }
  // One key/value head each; the ranks of a head share its queries.
  const auto kv_of = [&](int r) { return int64_t{r} * shape.num_kv_heads / num_ranks; };
  const int kv = static_cast<int>(kv_of(rank));
  int first = rank, end = rank;
  while (first > 0 && kv_of(first - 1) == kv) --first;
  while (end < num_ranks && kv_of(end) == kv) ++end;
  const IndexRange queries = EvenPart(per_kv, 1, rank - first, end - first);
  return {kv, 1, kv * per_kv + queries.first, queries.count};
}

HeadRange HeadsOf(const LatentShape&, int num_heads, int rank, int num_ranks) {
  const IndexRange heads = EvenPart(num_heads, 1, rank, num_ranks);
  return {heads.first, heads.count, heads.first, heads.count};
}

int ValueDim(const AttentionShape& attention) {
  const auto* const grouped = std::get_if<GroupedQueryShape>(&attention);
  return grouped != nullptr ? grouped->head_dim : std::get<LatentShape>(attention).v_dim;
}

// The error of a product with fewer rows than ranks.
absl::Status Check(const char* rows, int count, const IndexRange& part, int num_ranks) {
  if (part.count > 0 || count == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%d ranks: the model has %d %s, and each rank needs one", num_ranks, count, rows));
}

}  // namespace

absl::StatusOr<RankShare> ShareOfRank(const ModelConfig& config, int rank, int num_ranks) {
  if (num_ranks < 1 || rank < 0 || rank >= num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("rank %d of %d: wanted one of 0..%d", rank, num_ranks, num_ranks - 1));
  }
  RankShare share;
  share.rank = rank;
  share.num_ranks = num_ranks;
  share.heads = std::visit(
      [&](const auto& shape) { return HeadsOf(shape, config.num_heads, rank, num_ranks); },
      config.attention);
  if (const auto* const latent = std::get_if<LatentShape>(&config.attention)) {
    const auto part = [&](int rows) { return EvenPart(rows, 1, rank, num_ranks); };
    share.query_latent = part(latent->q_lora_rank);
    share.latent = part(latent->cached_dim());
    if (latent->indexer.topk > 0) {
      share.index_query = part(latent->indexer.num_heads * latent->indexer.head_dim);
      share.index_key = part(latent->indexer.head_dim);
      share.index_heads = part(latent->indexer.num_heads);
    }
  }
  const int value_dim = ValueDim(config.attention);
  share.attended = {share.heads.first_query * value_dim, share.heads.num_queries * value_dim};
  share.hidden = EvenPart(config.hidden_size, 1, rank, num_ranks);
  if (config.num_dense_layers > 0)
    share.dense_inner = InnerPart(config.intermediate_size, rank, num_ranks);
  const int shared = config.num_shared_experts > 0 ? config.shared_intermediate_size() : 0;
  const int experts = config.num_moe_layers() > 0 ? config.num_experts : 0;
  share.shared_inner = InnerPart(shared, rank, num_ranks);
  share.gate = EvenPart(experts, 1, rank, num_ranks);
  share.vocabulary = EvenPart(config.vocab_size, 1, rank, num_ranks);
  const IndexRange queries{share.heads.first_query, share.heads.num_queries};
  SHEAF_RETURN_IF_ERROR(Check("query heads", config.num_heads, queries, num_ranks));
  SHEAF_RETURN_IF_ERROR(Check("hidden values", config.hidden_size, share.hidden, num_ranks));
  SHEAF_RETURN_IF_ERROR(Check("rows of a dense feed-forward",
                              config.num_dense_layers > 0 ? config.intermediate_size : 0,
                              share.dense_inner, num_ranks));
  SHEAF_RETURN_IF_ERROR(Check("rows of the shared expert", shared, share.shared_inner, num_ranks));
  SHEAF_RETURN_IF_ERROR(Check("experts", experts, share.gate, num_ranks));
  SHEAF_RETURN_IF_ERROR(Check("tokens", config.vocab_size, share.vocabulary, num_ranks));
  return share;
}

absl::StatusOr<std::vector<RankShare>> ShareAmongRanks(const ModelConfig& config, int num_ranks) {
  std::vector<RankShare> shares;
  for (int rank = 0; rank < std::max(1, num_ranks); ++rank) {
    SHEAF_ASSIGN_OR_RETURN(shares.emplace_back(), ShareOfRank(config, rank, num_ranks));
  }
  return shares;
}

RankShare WholeModel(const ModelConfig& config) { return *ShareOfRank(config, 0, 1); }

}  // namespace sheaf
