// A warm decode step takes no memory from the system: its scratch is kept. Counted in page faults
// of the whole process, with as many threads as a large machine has, however few cores this one
// has.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "exchange/layer/local_expert_layer.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/attention/paged_attention.h"
#include "router/attention/decoder.h"
#include "tests/attention/tiny_checkpoint.h"

namespace sheaf {
namespace {

using testing::TinyCheckpoint;

int64_t PageFaults() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// The fewest page faults of a step among many: a thread that gets its first item late takes its own
// scratch then, and that is not what every step does.
int64_t FewestFaults(const std::function<void()>& step) {
  for (int i = 0; i < 20; ++i) step();
  int64_t fewest = PageFaults();
  for (int i = 0; i < 30; ++i) {
    const int64_t before = PageFaults();
    step();
    fewest = std::min(fewest, PageFaults() - before);
  }
  return fewest;
}

class WarmStep : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the sanitizer's own memory is counted too";
#endif
  }
};

constexpr int kContext = 8192;

// Real dimensions: the partial results of one token's split context are megabytes.
TEST_P(WarmStep, GroupedQueryAttention) {
  constexpr int kHeads = 96, kKvHeads = 8, kHeadDim = 128, kBlockSize = 16;
  ThreadPool pool(GetParam());
  std::vector<int32_t> table(kContext / kBlockSize);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  kernels::KvPool kv;
  kv.format = kernels::KvFormat::kFp8E5M2;
  kv.block_size = kBlockSize;
  kv.num_kv_heads = kKvHeads;
  kv.head_dim = kHeadDim;
  std::vector<uint8_t> memory(kv.block_bytes() * table.size(), 0x30);
  kv.data = memory.data();
  const std::vector<float> q(kHeads * kHeadDim, 0.5f);
  std::vector<float> out(kHeads * kHeadDim);
  const kernels::AttentionSequence sequence{table.data(), kContext - 1, 1, q.data(), out.data()};
  EXPECT_EQ(FewestFaults([&] {
              kernels::PagedAttention(pool, kv, kHeads, 0.1f, {&sequence, 1}, kHeads * kHeadDim,
                                      kHeads * kHeadDim);
            }),
            0);
}

TEST_P(WarmStep, LatentAttention) {
  constexpr int kHeads = 64, kRank = 512, kRope = 64, kBlockSize = 16;
  ThreadPool pool(GetParam());
  std::vector<int32_t> table(kContext / kBlockSize);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  kernels::LatentPool kv;
  kv.format = kernels::KvFormat::kBF16;
  kv.block_size = kBlockSize;
  kv.latent_dim = kRank;
  kv.rope_dim = kRope;
  std::vector<uint8_t> memory(kv.block_bytes() * table.size(), 0x30);
  kv.data = memory.data();
  const std::vector<float> q(kHeads * (kRank + kRope), 0.5f);
  std::vector<float> out(kHeads * kRank);
  const kernels::LatentQuery query{table.data(), nullptr, 2048, q.data(), out.data()};
  EXPECT_EQ(FewestFaults([&] { kernels::LatentAttention(pool, kv, kHeads, 0.1f, {&query, 1}); }),
            0);
}

TEST_P(WarmStep, OfTheWholeDecoder) {
  constexpr int kTokens = 1024;
  for (const bool latent : {false, true}) {
    const TinyCheckpoint checkpoint({.seed = 5, .four_bit = true, .latent = latent});
    ThreadPool pool(GetParam());
    LocalExpertLayer experts(checkpoint.experts(), checkpoint.config().num_layers,
                             checkpoint.config().num_experts, pool);
    const auto cache = *KvCache::Create(checkpoint.config(), {checkpoint.all_heads()},
                                        {kernels::KvFormat::kBF16, 16, size_t{8} << 20});
    Decoder decoder(checkpoint.config(), checkpoint.weights(), *cache,
                    experts, pool, {.max_batched_tokens = kTokens, .max_model_len = kTokens});
    std::vector<int32_t> table;
    for (int i = 0; i * 16 < kTokens; ++i) table.push_back(i);
    const std::vector<TokenId> prompt(kTokens - 1, 7);
    uint64_t step = 0;
    const auto run = [&](std::span<const TokenId> tokens, int first) {
      const StepSequence sequence{tokens, first, table, static_cast<int>(tokens.size()) - 1};
      EXPECT_TRUE(
          decoder.Forward({StepId(++step), {&sequence, 1}}, [](const LogitRows&) {}).ok());
    };
    run(prompt, 0);
    const TokenId last = 9;
    EXPECT_EQ(FewestFaults([&] { run({&last, 1}, kTokens - 1); }), 0) << latent;
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, WarmStep, ::testing::Values(1, 2, 5, 8, 16));

}  // namespace
}  // namespace sheaf
