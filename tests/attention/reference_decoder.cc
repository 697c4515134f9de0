#include "tests/attention/reference_decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

namespace sheaf::testing {
namespace {

using Vector = std::vector<double>;

class Reference {
 public:
  explicit Reference(const TinyCheckpoint& checkpoint)
      : file_(checkpoint), config_(checkpoint.config()) {}

  std::vector<Vector> Logits(std::span<const TokenId> tokens) {
    std::vector<Vector> h;
    const std::vector<float>& embedding = file_.tensor("model.embed_tokens.weight");
    for (TokenId token : tokens) {
      const auto row = embedding.begin() + size_t(token) * config_.hidden_size;
      h.emplace_back(row, row + config_.hidden_size);
    }
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer);
      Attention(prefix, h);
      for (Vector& x : h) {
        const Vector normed = Norm(x, prefix + ".post_attention_layernorm.weight");
        Add(config_.is_moe_layer(layer) ? Experts(prefix + ".mlp", normed)
                                        : Mlp(prefix + ".mlp", normed),
            1, x);
      }
    }
    for (Vector& x : h) x = Multiply("lm_head", Norm(x, "model.norm.weight"));
    return h;
  }

 private:
  static void Add(const Vector& x, double factor, Vector& y) {
    for (size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
  }

  Vector Norm(const Vector& x, const std::string& weight) const {
    const double mean = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / x.size();
    const std::vector<float>& w = file_.tensor(weight);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i)
      y[i] = x[i] / std::sqrt(mean + config_.rms_norm_eps) * w[i];
    return y;
  }

  Vector Multiply(const std::string& prefix, const Vector& x) const {
    const std::vector<float>& w = file_.tensor(prefix + ".weight");
    Vector y(w.size() / x.size());
    for (size_t i = 0; i < y.size(); ++i) {
      for (size_t j = 0; j < x.size(); ++j) y[i] += w[i * x.size() + j] * x[j];
    }
    if (file_.has_tensor(prefix + ".bias")) {
      for (size_t i = 0; i < y.size(); ++i) y[i] += file_.tensor(prefix + ".bias")[i];
    }
    return y;
  }

  Vector Mlp(const std::string& prefix, const Vector& x) const {
    Vector gate = Multiply(prefix + ".gate_proj", x);
    const Vector up = Multiply(prefix + ".up_proj", x);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    return Multiply(prefix + ".down_proj", gate);
  }

  Vector Experts(const std::string& prefix, const Vector& x) const {
    Vector score = Multiply(prefix + ".gate", x);
    for (double& s : score) s = 1 / (1 + std::exp(-s));
    const std::vector<float>& bias = file_.tensor(prefix + ".gate.e_score_correction_bias");
    std::vector<int> order(score.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return score[a] + bias[a] > score[b] + bias[b]; });
    order.resize(config_.experts_per_token);
    double sum = 0;
    for (int expert : order) sum += score[expert];
    Vector y(x.size());
    for (int expert : order) {
      Add(Mlp(prefix + ".experts." + std::to_string(expert), x),
          score[expert] / sum * config_.routed_scaling, y);
    }
    if (config_.num_shared_experts > 0) Add(Mlp(prefix + ".shared_experts", x), 1, y);
    return y;
  }

  // One head of a projection, normed and rotated.
  Vector Head(const Vector& all, int head, const std::string& norm, int position) const {
    const auto& shape = std::get<GroupedQueryShape>(config_.attention);
    const int d = shape.head_dim, half = shape.rotary_dim / 2;
    Vector x = Norm(Vector(all.begin() + head * d, all.begin() + (head + 1) * d), norm);
    for (int j = 0; j < half; ++j) {
      const double angle = position * std::pow(config_.rope.theta, -2.0 * j / shape.rotary_dim);
      const double a = x[j], b = x[j + half];
      x[j] = a * std::cos(angle) - b * std::sin(angle);
      x[j + half] = b * std::cos(angle) + a * std::sin(angle);
    }
    return x;
  }

  void Attention(const std::string& layer, std::vector<Vector>& h) const {
    const std::string prefix = layer + ".self_attn";
    const auto& shape = std::get<GroupedQueryShape>(config_.attention);
    const int d = shape.head_dim, per_kv_head = config_.num_heads / shape.num_kv_heads;
    std::vector<Vector> q, k, v;
    for (const Vector& x : h) {
      const Vector normed = Norm(x, layer + ".input_layernorm.weight");
      q.push_back(Multiply(prefix + ".q_proj", normed));
      k.push_back(Multiply(prefix + ".k_proj", normed));
      v.push_back(Multiply(prefix + ".v_proj", normed));
    }
    for (size_t t = 0; t < h.size(); ++t) {
      Vector attended(size_t(config_.num_heads) * d);
      for (int head = 0; head < config_.num_heads; ++head) {
        const int kv_head = head / per_kv_head;
        const Vector query = Head(q[t], head, prefix + ".q_norm.weight", t);
        Vector weight(t + 1);
        double sum = 0;
        for (size_t s = 0; s <= t; ++s) {
          const Vector key = Head(k[s], kv_head, prefix + ".k_norm.weight", s);
          weight[s] = std::exp(std::inner_product(query.begin(), query.end(), key.begin(), 0.0) /
                               std::sqrt(d));
          sum += weight[s];
        }
        for (size_t s = 0; s <= t; ++s) {
          for (int i = 0; i < d; ++i)
            attended[head * d + i] += weight[s] / sum * v[s][kv_head * d + i];
        }
      }
      Add(Multiply(prefix + ".o_proj", attended), 1, h[t]);
    }
  }

  const TinyCheckpoint& file_;
  const ModelConfig& config_;
};

}  // namespace

std::vector<std::vector<double>> ReferenceLogits(const TinyCheckpoint& checkpoint,
                                                 std::span<const TokenId> tokens) {
  return Reference(checkpoint).Logits(tokens);
}

}  // namespace sheaf::testing
