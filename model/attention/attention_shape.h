#pragma once
// The two kinds of attention that the served models have, as numbers: what differs between
// model types before any tensor is read. model/attention/ holds the rest of the difference on
// the side of the file (names, weights), router/attention/ that of the computation.
//
// Grouped-query attention (GLM-4.6): each query head reads the keys and values of its group.
// Latent attention (GLM-4.7-Flash, GLM-5.1): the keys and values of all heads are projections of
// one latent per token; in GLM-5.1 a sparse indexer says which tokens are read at all.

#include <variant>
#include <vector>

namespace sheaf {

struct GroupedQueryShape {
  int num_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;  // head_dim * partial_rotary_factor
  bool bias = false;   // of q, k and v
  bool qk_norm = false;
};

struct IndexerShape {
  int topk = 0;  // positions that a token attends to at most
  int num_heads = 0;
  int head_dim = 0;
  bool rope_interleave = true;
  // By layer: whether it has an indexer of its own. The others use the choice of the last layer
  // before them that has one; the first layer always has. In models without indexers none has.
  std::vector<bool> is_full;
};

struct LatentShape {
  int q_lora_rank = 0;   // 0: queries are projected at once, by q_proj
  int kv_lora_rank = 0;  // width of the latent
  int nope_dim = 0;      // of a query or key head: what is not rotated
  int rope_dim = 0;      // of a query or key head: what is rotated; one key for all heads
  int v_dim = 0;         // of a value head
  bool bias = false;     // of q_a_proj, kv_a_proj_with_mqa and o_proj
  bool rope_interleave = true;
  // Of q_a_layernorm and kv_a_layernorm. transformers has 1e-6 here whatever the config says;
  // serving engines take rms_norm_eps, and so do we.
  float norm_eps = 1e-5f;
  float score_factor = 1.0f;  // of scores, besides 1 / sqrt(qk_dim)
  IndexerShape indexer;       // topk 0: none, every token is read

  int qk_dim() const { return nope_dim + rope_dim; }
  int cached_dim() const { return kv_lora_rank + rope_dim; }
};

using AttentionShape = std::variant<GroupedQueryShape, LatentShape>;

}  // namespace sheaf
