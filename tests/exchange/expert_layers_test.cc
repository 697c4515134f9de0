// Wherever the experts live, the sum has the same bits; and whatever goes wrong has a name and an
// end.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "exchange/in_process_transport.h"
#include "exchange/local_expert_layer.h"
#include "exchange/remote_expert_layer.h"
#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"
#include "worker/in_process_workers.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr int kLayers = 2;
constexpr int kExperts = 7;
constexpr int kHidden = 384;
constexpr int kInner = 128;
constexpr int kTopK = 3;

std::vector<float> Sum(ExpertLayer& layer, const RandomBatch& batch, uint64_t step,
                       absl::Status* status = nullptr) {
  std::vector<float> sum(batch.sum_floats(), std::numeric_limits<float>::quiet_NaN());
  absl::Status result = layer.Begin(batch.At(step));
  if (result.ok()) result = layer.Finish(sum.data());
  if (status != nullptr) {
    *status = result;
  } else {
    EXPECT_TRUE(result.ok()) << result;
  }
  return sum;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class ExpertLayers : public testing::Test {
 protected:
  std::unique_ptr<InProcessWorkers> StartWorkers(int count) {
    auto workers = InProcessWorkers::Start(
        transport_, std::vector<const ExpertSource*>(size_t(count), &experts_),
        ContiguousPlacement(kLayers, kExperts, count), 1);
    EXPECT_TRUE(workers.ok()) << workers.status();
    return *std::move(workers);
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  RandomExperts experts_{seed_, kLayers, kExperts, kHidden, kInner};
  ThreadPool pool_{2};
  InProcessTransport transport_;
};

TEST_F(ExpertLayers, LocalIsTheWeightedSumInExpertOrder) {
  LocalExpertLayer local(experts_, kLayers, kExperts, pool_);
  const RandomBatch batch(random_, LayerId(1), 5, kHidden, kExperts, kTopK);
  const std::vector<float> got = Sum(local, batch, 1);

  const RoutedBatch routed = batch.At(1);
  std::vector<float> out(kHidden);
  for (int32_t token = 0; token < 5; ++token) {
    std::vector<float> want(kHidden, 0.0f);
    for (int k = 0; k < kTopK; ++k) {
      const int slot = token * kTopK + k;
      kernels::ref::RunExpert(routed.x,
                              {experts_.Find(LayerId(1), ExpertId(routed.expert_ids[slot])),
                               std::span(&token, 1), out.data()});
      for (int i = 0; i < kHidden; ++i)
        want[size_t(i)] = std::fma(routed.weights[slot], out[size_t(i)], want[size_t(i)]);
    }
    EXPECT_EQ(0, std::memcmp(want.data(), got.data() + token * kHidden, sizeof(float) * kHidden))
        << "token " << token;
  }
}

TEST_F(ExpertLayers, AnyNumberOfWorkersGivesTheBitsOfNone) {
  LocalExpertLayer local(experts_, kLayers, kExperts, pool_);
  for (const int workers : {1, 2, 3, 5, 7}) {
    const auto cluster = StartWorkers(workers);
    RemoteExpertLayer remote(*cluster, pool_);
    uint64_t step = 0;
    for (const int tokens : {1, 2, 33, 150}) {
      for (const bool skew : {false, true}) {  // skewed: most workers get nothing
        const RandomBatch batch(random_, LayerId(int(random_() % kLayers)), tokens, kHidden,
                                kExperts, kTopK, skew);
        ++step;
        EXPECT_TRUE(SameBits(Sum(local, batch, step), Sum(remote, batch, step)))
            << workers << " workers, " << tokens << " tokens, skew " << skew;
      }
    }
  }
}

TEST_F(ExpertLayers, PartsOfABatchGiveTheBitsOfTheWhole) {
  const RandomBatch batch(random_, LayerId(0), 100, kHidden, kExperts, kTopK);
  LocalExpertLayer whole(experts_, kLayers, kExperts, pool_);
  LocalExpertLayer parts(experts_, kLayers, kExperts, pool_, 7);
  const auto cluster = StartWorkers(3);
  RemoteExpertLayer remote_parts(*cluster, pool_, {.chunk_tokens = 16});
  const std::vector<float> want = Sum(whole, batch, 1);
  EXPECT_TRUE(SameBits(want, Sum(parts, batch, 1)));
  EXPECT_TRUE(SameBits(want, Sum(remote_parts, batch, 1)));
}

TEST_F(ExpertLayers, TotalsCountBytesAndPairsOfEachWorker) {
  const auto cluster = StartWorkers(7);
  RemoteExpertLayer remote(*cluster, pool_);
  const RandomBatch batch(random_, LayerId(0), 10, kHidden, kExperts, kTopK,
                          true);  // experts 0, 1, 2
  Sum(remote, batch, 1);
  const ExchangeTotals totals = remote.TakeTotals();
  ASSERT_EQ(totals.workers.size(), 3u);
  for (const auto& worker : totals.workers) {
    EXPECT_EQ(worker.pairs, 10);
    EXPECT_EQ(worker.received_bytes, 64 + 10 * kHidden * 4);
    EXPECT_EQ(worker.sent_bytes, 64 + 10 * 3 * (256 + 4) + 8 + 10 * 4);
  }
  EXPECT_GT(totals.combine.count(), 0);
  EXPECT_TRUE(remote.TakeTotals().workers.empty());
}

TEST_F(ExpertLayers, ASilentWorkerIsNamedAtTheDeadlineAndTheNextEpochWorks) {
  LocalExpertLayer local(experts_, kLayers, kExperts, pool_);
  const auto cluster = StartWorkers(2);
  RemoteExpertLayer remote(*cluster, pool_, {.base_timeout = std::chrono::milliseconds(100)});
  const RandomBatch batch(random_, LayerId(1), 8, kHidden, kExperts, kExperts);
  transport_.SetTap([](const FrameHeader& header) {
    return header.kind != FrameKind::kCombine || header.source != 1 || header.epoch != Epoch(1);
  });
  absl::Status status;
  Sum(remote, batch, 9, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 1 did not answer layer 1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("step 9, epoch 1"));
  EXPECT_TRUE(SameBits(Sum(local, batch, 10), Sum(remote, batch, 10)));
  EXPECT_EQ(cluster->epoch(), Epoch(2));
}

TEST_F(ExpertLayers, AWorkerWithoutTheExpertSaysSo) {
  const RandomExperts fewer(seed_, kLayers, kExperts, kHidden, kInner);
  struct Nothing final : ExpertSource {
    const kernels::ExpertWeights* Find(LayerId, ExpertId) const override { return nullptr; }
  } nothing;
  auto cluster = InProcessWorkers::Start(transport_, {&experts_, &nothing},
                                         ContiguousPlacement(kLayers, kExperts, 2), 1);
  ASSERT_TRUE(cluster.ok());
  RemoteExpertLayer remote(**cluster, pool_);
  const RandomBatch batch(random_, LayerId(1), 2, kHidden, kExperts, kExperts);
  absl::Status status;
  Sum(remote, batch, 1, &status);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("worker 1: layer 1, expert 4 is not in worker 1's slice"));
}

TEST_F(ExpertLayers, AbortFromAnotherThreadEndsTheWait) {
  const auto cluster = StartWorkers(2);
  RemoteExpertLayer remote(*cluster, pool_, {.base_timeout = std::chrono::seconds(60)});
  std::atomic<bool> dropped{false};
  transport_.SetTap([&](const FrameHeader& header) {
    if (header.kind != FrameKind::kCombine) return true;
    dropped = true;
    dropped.notify_all();
    return false;
  });
  const absl::StatusOr<OpenEpoch> open = cluster->Current();
  ASSERT_TRUE(open.ok());
  std::thread controller([&] {
    dropped.wait(false);
    open->link->Abort(absl::UnavailableError("worker 0 lost: lease expired"));
  });
  const RandomBatch batch(random_, LayerId(0), 2, kHidden, kExperts, kTopK);
  absl::Status status;
  Sum(remote, batch, 1, &status);
  controller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 0 lost: lease expired (layer 0"));
}

}  // namespace
}  // namespace sheaf
