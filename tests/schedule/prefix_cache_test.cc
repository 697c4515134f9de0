// The prefix cache under the real planner, without a model: a step writes token ids into blocks,
// and whatever a sequence is said to have computed must be its own tokens. Random loads of prompts
// that share beginnings, with steps given up, failures, cancels, preemptions and resets.
#include "router/schedule/blocks/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "router/schedule/plan/scheduler.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

struct Context {
  SequenceId id;
  std::string salt;
  std::vector<TokenId> tokens;
  size_t end = 0;  // tokens at which it ends
  std::vector<int32_t> blocks;
  CachedPrefix prefix;
  int computed = 0;
  bool prefilled = false;
  uint64_t last_step = 0;
};

class Play {
 public:
  Play(std::mt19937_64& random, int num_blocks, int block_size, SchedulerLimits limits)
      : random_(random),
        limits_(limits),
        cache_({true, {}}, num_blocks, block_size),
        written_(static_cast<size_t>(num_blocks) * block_size, {-1, ""}) {
    limits_.block_size = block_size;
  }

  void Run(int count) {
    const int capacity = cache_.num_blocks() * cache_.block_size();
    for (int i = 1; i <= count; ++i) queue_.push_back(Make(i, capacity));
    int64_t steps = 0;
    while (!queue_.empty() || !running_.empty()) {
      Step();
      if (::testing::Test::HasFatalFailure()) return;
      ASSERT_LT(++steps, 200000) << "somebody starves";
    }
    EXPECT_EQ(cache_.num_free(), cache_.num_blocks()) << "blocks leaked";
  }

  int hits = 0, deferred = 0, preempted = 0;

 private:
  // Beginnings come from few families, cut anywhere; so do salts.
  std::unique_ptr<Context> Make(int id, int capacity) {
    auto made = std::make_unique<Context>();
    made->id = SequenceId(id);
    if (random_() % 4 == 0) made->salt = "other";
    const size_t prompt = 1 + random_() % std::min(capacity - 1, 90);
    const size_t shared = random_() % (prompt + 1);
    const int family = static_cast<int>(random_() % 3);
    for (size_t i = 0; i < prompt; ++i) {
      made->tokens.push_back(i < shared ? family * 1000 + static_cast<int>(i)
                                        : static_cast<int>(random_() % 4));
    }
    made->end = std::min<size_t>(prompt + 1 + random_() % 30, capacity);
    made->prefix.chain.Extend(BlockHasher({}), made->salt, made->tokens, cache_.block_size());
    return made;
  }

  StepPlan Plan() {
    std::vector<RunningSequence> running;
    std::set<std::array<uint64_t, 2>> computing;
    for (const auto& each : running_) {
      running.push_back({each->id, static_cast<int>(each->tokens.size()), each->computed,
                         static_cast<int>(each->blocks.size()), each->last_step, each->prefilled,
                         cache_.NumShared(each->prefix, each->blocks)});
      CheckShared(*each, running.back().shared_blocks);
      if (auto name = cache_.NextName(each->prefix, static_cast<int>(each->tokens.size()))) {
        computing.insert(name->words);
      }
    }
    std::vector<QueuedSequence> queued;
    for (const auto& each : queue_) {
      const int total = static_cast<int>(each->tokens.size());
      const int most = (total - 1) / cache_.block_size();
      const PrefixCache::Found found = cache_.Look(each->prefix, most);
      CheckFound(*each, found, most);
      const bool defer = found.blocks < most &&
                         computing.contains(each->prefix.chain[found.blocks].words);
      deferred += defer;
      queued.push_back({each->id, total, found.blocks * cache_.block_size(), found.shared, defer});
    }
    return PlanStep({running, queued, cache_.num_free(), cache_.num_blocks()}, limits_);
  }

  // As a walk over all blocks says it.
  void CheckFound(const Context& context, const PrefixCache::Found& found, int most) {
    std::set<int32_t> owned;
    for (const auto& each : running_) owned.insert(each->blocks.begin(), each->blocks.end());
    BlockHashChain chain;
    chain.Extend(BlockHasher({}), context.salt, context.tokens, cache_.block_size());
    CachedPrefix fresh;
    fresh.chain = chain;
    const PrefixCache::Found again = cache_.Look(fresh, most);
    ASSERT_EQ(found.blocks, again.blocks) << "a remembered look differs from a new one";
    ASSERT_EQ(found.shared, again.shared);
    ASSERT_LE(found.shared, found.blocks);
  }

  void CheckShared(const Context& context, int shared) {
    int count = 0;
    for (const int32_t block : context.blocks) {
      count += std::any_of(running_.begin(), running_.end(), [&](const auto& other) {
        return other.get() != &context && std::ranges::count(other->blocks, block) > 0;
      });
    }
    ASSERT_EQ(shared, count);
  }

  void Preempt(const StepPlan& plan) {
    for (const SequenceId id : plan.preempted) {
      const auto found = std::find_if(running_.begin(), running_.end(),
                                      [&](const auto& each) { return each->id == id; });
      ASSERT_NE(found, running_.end());
      std::unique_ptr<Context> context = std::move(*found);
      running_.erase(found);
      ++preempted;
      cache_.Free(context->prefix, context->blocks);
      context->computed = 0;
      context->prefilled = false;
      queue_.push_front(std::move(context));
    }
  }

  void Step() {
    ++step_;
    if (random_() % 200 == 0) cache_.Forget();
    StepPlan plan = Plan();
    while (plan.runs.empty() && !plan.preempted.empty()) {
      Preempt(plan);
      plan = Plan();
    }
    if (::testing::Test::HasFatalFailure()) return;
    ASSERT_FALSE(plan.runs.empty()) << "work waits and nothing runs";
    Preempt(plan);
    for (const SequenceId id : plan.admitted) Admit(id);
    for (const StepPlan::Run& run : plan.runs) {
      Context& context = Running(run.id);
      ASSERT_TRUE(cache_.Allocate(run.new_blocks, context.blocks));
      context.last_step = step_;
    }
    const int fate = static_cast<int>(random_() % 20);
    for (const StepPlan::Run& run : plan.runs) Write(Running(run.id), run.num_tokens);
    if (fate == 0) return;  // given up: it left its marks in the cache, and nobody knows
    for (const StepPlan::Run& run : plan.runs) {
      if (fate == 1) {
        End(run.id);
      } else {
        Advance(Running(run.id), run.num_tokens);
      }
    }
    if (!running_.empty() && random_() % 60 == 0) End(running_[random_() % running_.size()]->id);
    std::vector<SequenceId> over;
    for (const auto& each : running_) {
      if (each->tokens.size() >= each->end) over.push_back(each->id);
    }
    for (const SequenceId id : over) End(id);
  }

  void Admit(SequenceId id) {
    const auto found = std::find_if(queue_.begin(), queue_.end(),
                                    [&](const auto& each) { return each->id == id; });
    running_.push_back(std::move(*found));
    queue_.erase(found);
    Context& context = *running_.back();
    const int most = (static_cast<int>(context.tokens.size()) - 1) / cache_.block_size();
    const int blocks = cache_.Take(context.prefix, most, context.blocks);
    context.computed = blocks * cache_.block_size();
    hits += blocks;
  }

  // What a step does: reads everything before its positions, writes them.
  void Write(Context& context, int count) {
    const int block_size = cache_.block_size();
    for (int position = 0; position < context.computed + count; ++position) {
      auto& place =
          written_[static_cast<size_t>(context.blocks[position / block_size]) * block_size +
                   position % block_size];
      const std::pair<TokenId, std::string> wanted = {context.tokens[position], context.salt};
      if (position < context.computed) {
        ASSERT_EQ(place, wanted) << "position " << position << " of sequence "
                                 << context.id.value();
      } else {
        ASSERT_EQ(std::count_if(running_.begin(), running_.end(),
                                [&](const auto& each) {
                                  return std::ranges::count(
                                             each->blocks,
                                             context.blocks[position / block_size]) > 0;
                                }),
                  1)
            << "writes into what is shared";
        place = wanted;
      }
    }
  }

  void Advance(Context& context, int count) {
    context.computed += count;
    cache_.Publish(context.prefix, context.salt, context.tokens, context.computed, context.blocks);
    if (context.computed < static_cast<int>(context.tokens.size())) return;
    context.prefilled = true;
    context.tokens.push_back(static_cast<int>(random_() % 2));
  }

  void End(SequenceId id) {
    const auto found = std::find_if(running_.begin(), running_.end(),
                                    [&](const auto& each) { return each->id == id; });
    cache_.Free((*found)->prefix, (*found)->blocks);
    running_.erase(found);
  }

  Context& Running(SequenceId id) {
    return **std::find_if(running_.begin(), running_.end(),
                          [&](const auto& each) { return each->id == id; });
  }

  std::mt19937_64& random_;
  SchedulerLimits limits_;
  PrefixCache cache_;
  std::vector<std::pair<TokenId, std::string>> written_;  // by position of each block
  uint64_t step_ = 0;
  std::deque<std::unique_ptr<Context>> queue_;
  std::vector<std::unique_ptr<Context>> running_;
};

TEST(PrefixCache, NobodyEverReadsWhatIsNotItsOwnContext) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  int hits = 0, deferred = 0, preempted = 0;
  for (int round = 0; round < 60; ++round) {
    const int block_size = 1 + static_cast<int>(random() % 9);
    const int blocks = 2 + static_cast<int>(random() % 60);
    SCOPED_TRACE(::testing::Message() << "round " << round << ": " << blocks << " blocks of "
                                      << block_size);
    Play play(random, blocks, block_size,
              {1 + static_cast<int>(random() % 10), 1 + static_cast<int>(random() % 60)});
    play.Run(40);
    if (HasFatalFailure()) return;
    hits += play.hits;
    deferred += play.deferred;
    preempted += play.preempted;
  }
  EXPECT_GT(hits, 100);
  EXPECT_GT(deferred, 10);
  EXPECT_GT(preempted, 10);
}

class TwoContexts : public ::testing::Test {
 protected:
  static constexpr int kBlock = 4;
  Context Make(int tokens, const std::string& salt = "") {
    Context made;
    made.salt = salt;
    for (int i = 0; i < tokens; ++i) made.tokens.push_back(i);
    made.prefix.chain.Extend(BlockHasher({}), salt, made.tokens, kBlock);
    return made;
  }
  void Compute(Context& context, int tokens) {
    const int blocks = BlocksForTokens(tokens, kBlock) - static_cast<int>(context.blocks.size());
    ASSERT_TRUE(cache_.Allocate(blocks, context.blocks));
    cache_.Publish(context.prefix, context.salt, context.tokens, tokens, context.blocks);
  }
  PrefixCache::Found Look(Context& context, int most = 100) {
    return cache_.Look(context.prefix, most);
  }

  PrefixCache cache_{{true, {}}, 8, kBlock};
};

TEST_F(TwoContexts, ShareWholeComputedBlocks) {
  Context a = Make(10), b = Make(10);
  Compute(a, 7);
  EXPECT_EQ(Look(b).blocks, 1) << "4 of 7 tokens fill a block";
  EXPECT_EQ(Look(b).shared, 1);
  EXPECT_EQ(Look(b, 0).blocks, 0);
  EXPECT_EQ(cache_.NextName(a.prefix, 10), b.prefix.chain[1]);
  Compute(a, 10);
  EXPECT_EQ(cache_.NextName(a.prefix, 10), std::nullopt) << "2 tokens are no block";
  EXPECT_EQ(cache_.Take(b.prefix, 100, b.blocks), 2);
  EXPECT_EQ(b.blocks, std::vector<int32_t>(a.blocks.begin(), a.blocks.begin() + 2));
  EXPECT_EQ(cache_.NumShared(a.prefix, a.blocks), 2);
  cache_.Free(a.prefix, a.blocks);
  EXPECT_EQ(cache_.NumShared(b.prefix, b.blocks), 0);
  EXPECT_EQ(cache_.num_free(), 6);
}

TEST_F(TwoContexts, OfDifferentSaltsShareNothing) {
  Context a = Make(10, "mine"), b = Make(10, "yours"), c = Make(10, "mine");
  Compute(a, 10);
  EXPECT_EQ(Look(b).blocks, 0);
  EXPECT_EQ(Look(c).blocks, 2);
}

TEST_F(TwoContexts, WhatIsForgottenIsComputedAgain) {
  Context a = Make(12), b = Make(12);
  Compute(a, 8);
  EXPECT_EQ(Look(b).blocks, 2);
  cache_.Forget();
  EXPECT_EQ(Look(b).blocks, 0);
  Compute(a, 12);
  EXPECT_EQ(cache_.num_cached(), 0) << "the end of a chain whose beginning nobody can find";
  cache_.Free(a.prefix, a.blocks);
  EXPECT_EQ(cache_.Take(a.prefix, 100, a.blocks), 0);
  Compute(a, 12);
  EXPECT_EQ(Look(b).blocks, 3);
}

TEST_F(TwoContexts, LooksAgainOnlyWhenSomethingChanged) {
  Context a = Make(8), b = Make(32);
  Compute(a, 8);
  EXPECT_EQ(Look(b).blocks, 2);
  cache_.Free(a.prefix, a.blocks);
  EXPECT_EQ(Look(b).blocks, 2);
  EXPECT_EQ(Look(b).shared, 0) << "idle: it costs free blocks";
  Context c = Make(0);
  ASSERT_TRUE(cache_.Allocate(7, c.blocks));
  EXPECT_EQ(Look(b).blocks, 1) << "the end of the chain went first";
}

TEST_F(TwoContexts, NothingIsFoundWhenItIsOff) {
  PrefixCache off({false, {}}, 8, kBlock);
  Context a = Make(8), b = Make(8);
  ASSERT_TRUE(off.Allocate(2, a.blocks));
  off.Publish(a.prefix, "", a.tokens, 8, a.blocks);
  EXPECT_EQ(off.Look(b.prefix, 100).blocks, 0);
  EXPECT_EQ(off.num_cached(), 0);
  EXPECT_EQ(off.NextName(a.prefix, 8), std::nullopt);
}

}  // namespace
}  // namespace sheaf
