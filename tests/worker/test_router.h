#pragma once
// A router's end of a link for tests: asks for experts, reads what comes back, in process.
//
// Threads    one.

#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "exchange/in_process/in_process_links.h"
#include "exchange/link/bell.h"
#include "exchange/wire/combine_payload.h"
#include "exchange/wire/dispatch_payload.h"
#include "exchange/wire/holdings.h"
#include "tests/worker/test_experts.h"

namespace sheaf {

// All that a batch asks for, as one worker gets it.
inline WorkerPlan WholePlan(const RoutedBatch& batch) {
  WorkerPlan plan;
  std::set<int32_t> experts(batch.expert_ids,
                            batch.expert_ids + size_t(batch.x.num_rows) * size_t(batch.top_k));
  for (int row = 0; row < batch.x.num_rows; ++row) plan.token_rows.push_back(row);
  for (const int32_t expert : experts) {
    ExpertRun run{expert, 0};
    for (int32_t slot = 0; slot < batch.x.num_rows * batch.top_k; ++slot) {
      if (batch.expert_ids[slot] != expert) continue;
      ++run.num_rows;
      plan.rows.push_back(slot / batch.top_k);
      plan.slots.push_back(slot);
    }
    plan.experts.push_back(run);
  }
  return plan;
}

struct TestAnswer {
  FrameHeader header;
  std::vector<uint8_t> payload;
  std::string text() const { return {payload.begin(), payload.end()}; }
  std::vector<int32_t> not_held() const {
    std::vector<int32_t> ids(payload.size() / sizeof(int32_t));
    std::memcpy(ids.data(), payload.data(), payload.size());
    return ids;
  }
};

class TestRouter {
 public:
  TestRouter(LinkMaker& maker, const std::vector<std::string>& addresses,
             const LinkRequest& request)
      : bell_(*Bell::Create()) {
    auto link = maker.NewConnector()->Connect(addresses, request, *bell_,
                                              std::chrono::steady_clock::now() +
                                                  std::chrono::seconds(20));
    status_ = link.status();
    if (link.ok()) link_ = *std::move(link);
  }
  const absl::Status& status() const { return status_; }
  FrameLink& link() { return *link_; }

  // What EncodeDispatch makes of the batch; returns its sequence.
  uint64_t Ask(const RoutedBatch& batch, FrameElement answer = FrameElement::kFloat32,
               uint32_t model = static_cast<uint32_t>(TestModel().digest)) {
    const WorkerPlan plan = WholePlan(batch);
    FrameHeader header;
    header.sequence = ++sequence_;
    header.step = batch.step;
    header.layer = batch.layer;
    header.model = model;
    header.answer = answer;
    const auto payload = link_->Reserve(DispatchBytes(plan, batch.x));
    if (!payload.ok()) return 0;
    EncodeDispatch(*pool_, plan, batch.x, header, payload->data());
    return link_->Send(header).ok() ? header.sequence : 0;
  }
  void Seen(uint64_t number) {
    FrameHeader header;
    header.kind = FrameKind::kHoldingsSeen;
    header.element = FrameElement::kNone;
    header.sequence = number;
    ASSERT_OK(link_->Reserve(0).status());
    ASSERT_OK(link_->Send(header));
  }

  // The next frame; nothing at the deadline or when the link has broken. Announcements are noted
  // and, with `acknowledge`, seen.
  std::optional<TestAnswer> NextFrame(
      std::chrono::milliseconds patience = std::chrono::seconds(20)) {
    const TimePoint deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
      const uint32_t rings = bell_->rings();
      const auto frame = link_->Next();
      status_ = frame.status();
      if (!frame.ok()) return std::nullopt;
      if (frame->has_value()) {
        TestAnswer answer{(*frame)->header,
                          {(*frame)->payload.begin(), (*frame)->payload.end()}};
        link_->Release();
        return answer;
      }
      if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
      bell_->WaitPast(rings, deadline);
    }
  }
  // The next answer to a dispatch. Announcements on the way are noted, and seen if `acknowledge`.
  std::optional<TestAnswer> NextAnswer(bool acknowledge = true) {
    for (;;) {
      std::optional<TestAnswer> frame = NextFrame();
      if (!frame.has_value()) return std::nullopt;
      if (frame->header.kind != FrameKind::kHoldings) return frame;
      Note(*frame, acknowledge);
    }
  }
  // Reads announcements until one says exactly this.
  bool WaitForHoldings(const std::vector<LayerExpert>& pairs, bool acknowledge = true) {
    while (!holdings_.has_value() || holdings_->List() != pairs) {
      const std::optional<TestAnswer> frame = NextFrame();
      if (!frame.has_value() || frame->header.kind != FrameKind::kHoldings) return false;
      Note(*frame, acknowledge);
    }
    return true;
  }
  const Holdings& holdings() const { return *holdings_; }

 private:
  void Note(const TestAnswer& frame, bool acknowledge) {
    holdings_ = *Holdings::Decode(frame.payload, kTestLayers, kTestExperts);
    EXPECT_EQ(holdings_->number, frame.header.sequence);
    if (acknowledge) Seen(holdings_->number);
  }
  static void ASSERT_OK(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }

  std::unique_ptr<Bell> bell_;
  std::unique_ptr<FrameLink> link_;
  absl::Status status_;
  std::unique_ptr<ThreadPool> pool_ = std::make_unique<ThreadPool>(1);
  uint64_t sequence_ = 0;
  std::optional<Holdings> holdings_;
};

// The answer has the bits that the kernels' reference gives.
inline void ExpectRightBits(const RoutedBatch& batch, const RandomExperts& experts,
                            const TestAnswer& answer) {
  ASSERT_EQ(answer.header.kind, FrameKind::kCombine) << answer.text();
  const WorkerPlan plan = WholePlan(batch);
  const auto view = CombineView::Decode(answer.header, answer.payload);
  ASSERT_TRUE(view.ok()) << view.status();
  const size_t hidden = size_t(batch.x.k);
  std::vector<float> want(hidden), got(hidden);
  for (size_t pair = 0; pair < plan.slots.size(); ++pair) {
    const int32_t token = plan.slots[pair] / batch.top_k;
    const int32_t expert = batch.expert_ids[plan.slots[pair]];
    kernels::ref::RunExpert(batch.x, {experts.weights(batch.layer, ExpertId(expert)),
                                      std::span(&token, 1), want.data()});
    if (!view->is_float32()) RoundToInt16Groups(want.data(), hidden);
    view->Expand(pair, got.data());
    ASSERT_EQ(0, std::memcmp(want.data(), got.data(), sizeof(float) * hidden)) << "pair " << pair;
  }
}

}  // namespace sheaf
