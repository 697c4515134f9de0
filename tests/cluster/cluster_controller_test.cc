// The controller against scripted sessions: what it sends, when it serves, and what a loss does.
// Links are in process; the lease clock is moved by hand.

#include "router/cluster/cluster_controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "exchange/in_process_transport.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr std::chrono::seconds kPatience{20};
const ModelIdentity kModel{
    .config_hash = 7, .num_layers = 3, .first_moe_layer = 1, .num_experts = 5, .hidden_size = 128};

class FakeSession final : public WorkerSession {
 public:
  void Send(v1::RouterMessage message) override {
    std::lock_guard lock(mutex_);
    if (ended_.has_value()) return;
    sent_.push_back(std::move(message));
    changed_.notify_all();
  }
  void End(const absl::Status& status) override {
    std::lock_guard lock(mutex_);
    if (!ended_.has_value()) ended_ = status;
    changed_.notify_all();
  }

  v1::RouterMessage Next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return !sent_.empty(); })) {
      ADD_FAILURE() << "the router sent nothing";
      return {};
    }
    v1::RouterMessage message = std::move(sent_.front());
    sent_.pop_front();
    return message;
  }
  absl::Status WaitEnd() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return ended_.has_value(); })) {
      ADD_FAILURE() << "the session did not end";
      return absl::OkStatus();
    }
    return *ended_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::RouterMessage> sent_;
  std::optional<absl::Status> ended_;
};

class Watcher final : public ClusterObserver {
 public:
  void OnChange(const ClusterSnapshot& snapshot) override {
    std::lock_guard lock(mutex_);
    last_ = snapshot;
    changed_.notify_all();
  }
  void OnWorkerLost(const LostWorker& lost) override {
    std::lock_guard lock(mutex_);
    lost_.push_back(lost);
    changed_.notify_all();
  }
  ClusterSnapshot WaitFor(const std::function<bool(const ClusterSnapshot&)>& wanted) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return wanted(last_); })) << last_.text;
    return last_;
  }
  LostWorker WaitLost() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return !lost_.empty(); }));
    if (lost_.empty()) return {};
    LostWorker lost = lost_.front();
    lost_.erase(lost_.begin());
    return lost;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  ClusterSnapshot last_;
  std::vector<LostWorker> lost_;
};

// A worker by script: a session and a data-plane end that answers the hello.
class FakeWorker {
 public:
  FakeWorker(ClusterController& controller, InProcessTransport& transport)
      : controller_(controller), transport_(transport), session_(std::make_shared<FakeSession>()) {
    controller_.OnOpened(session_);
  }
  ~FakeWorker() { StopServing(); }

  FakeSession& session() { return *session_; }
  WorkerId slot() const { return slot_; }

  void Say(const std::function<void(v1::WorkerMessage&)>& fill) {
    v1::WorkerMessage message;
    fill(message);
    controller_.OnMessage(session_, message);
  }
  void Close() { controller_.OnClosed(session_); }

  static void FillJoin(v1::WorkerMessage& message, const std::string& instance) {
    v1::Join& join = *message.mutable_join();
    join.set_protocol_version(kClusterProtocolVersion);
    join.set_instance(instance);
    join.set_pid(4242);
    join.set_preferred_slot(-1);
    join.mutable_model()->set_config_hash(kModel.config_hash);
    join.mutable_model()->set_num_layers(kModel.num_layers);
    join.mutable_model()->set_first_moe_layer(kModel.first_moe_layer);
    join.mutable_model()->set_num_experts(kModel.num_experts);
    join.mutable_model()->set_hidden_size(kModel.hidden_size);
  }

  void JoinAndLoad(const std::string& instance) {
    Say([&](auto& message) { FillJoin(message, instance); });
    const v1::RouterMessage reply = session_->Next();
    ASSERT_TRUE(reply.has_assignment()) << reply.ShortDebugString();
    slot_ = WorkerId(reply.assignment().slot());
    uint64_t experts = 0;
    for (const auto& range : reply.assignment().slice())
      experts += uint64_t(range.end() - range.begin());
    Say([&](auto& message) { message.mutable_slice_ready()->set_num_experts(experts); });
  }

  void OpenEpoch() {
    v1::RouterMessage prepare = session_->Next();
    ASSERT_TRUE(prepare.has_prepare_epoch()) << prepare.ShortDebugString();
    const uint64_t epoch = prepare.prepare_epoch().epoch();
    StopServing();
    link_ = *transport_.NewWorkerLink(Epoch(epoch), slot_);
    Say([&](auto& message) {
      message.mutable_epoch_prepared()->set_epoch(epoch);
      message.mutable_epoch_prepared()->set_address(link_->address());
    });
    v1::RouterMessage open = session_->Next();
    ASSERT_TRUE(open.has_open_epoch()) << open.ShortDebugString();
    ASSERT_TRUE(link_->Connect(open.open_epoch().router_address()).ok());
    serving_ = std::thread([this] {
      while (link_->Receive(std::chrono::steady_clock::now() + kPatience).ok()) {
      }
    });
    Say([&](auto& message) { message.mutable_epoch_opened()->set_epoch(epoch); });
  }

 private:
  void StopServing() {
    if (!serving_.joinable()) return;
    link_->Abort(absl::CancelledError("done"));
    serving_.join();
  }

  ClusterController& controller_;
  InProcessTransport& transport_;
  const std::shared_ptr<FakeSession> session_;
  WorkerId slot_;
  std::unique_ptr<WorkerLink> link_;
  std::thread serving_;
};

class ClusterControllerTest : public testing::Test {
 protected:
  ClusterSnapshot WaitServing(uint64_t epoch) {
    return watcher_.WaitFor(
        [&](const auto& now) { return now.ready && now.epoch == Epoch(epoch); });
  }
  void Serve(FakeWorker& first, FakeWorker& second) {
    ASSERT_NO_FATAL_FAILURE(first.JoinAndLoad("first"));
    ASSERT_NO_FATAL_FAILURE(second.JoinAndLoad("second"));
    std::thread other([&] { second.OpenEpoch(); });
    first.OpenEpoch();
    other.join();
    WaitServing(1);
    EXPECT_TRUE(first.session().Next().has_epoch_serving());
    EXPECT_TRUE(second.session().Next().has_epoch_serving());
  }

  InProcessTransport transport_;
  ManualClock clock_;
  Watcher watcher_;
  ClusterController controller_{ClusterOptions{.num_workers = 2, .model = kModel}, transport_,
                                clock_, &watcher_};
};

TEST_F(ClusterControllerTest, ServesWhenAllSlotsAreFilledAndLoaded) {
  EXPECT_EQ(controller_.Current().status().code(), absl::StatusCode::kFailedPrecondition);
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  const absl::StatusOr<OpenEpoch> open = controller_.Current();
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_EQ(open->link->epoch(), Epoch(1));
  EXPECT_EQ(open->placement->At(LayerId(1), ExpertId(4)).front(), WorkerId(1));
  EXPECT_TRUE(controller_.Ready().ok());
  EXPECT_EQ(controller_.snapshot().live_workers, 2);
}

TEST_F(ClusterControllerTest, ALostSessionAbortsTheLinkAndAReplacementOpensTheNextEpoch) {
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  const absl::StatusOr<OpenEpoch> open = controller_.Current();
  second.Close();
  const LostWorker lost = watcher_.WaitLost();
  EXPECT_EQ(lost.worker, WorkerId(1));
  EXPECT_EQ(lost.member.pid, 4242);
  EXPECT_FALSE(lost.hung);
  const absl::Status current = controller_.Current().status();
  EXPECT_EQ(current.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(current.message()), HasSubstr("worker 1 lost"));
  std::vector<uint8_t> combine(128 * 4);
  Exchange exchange{WorkerId(0), {}, {}, combine};
  exchange.dispatch.kind = FrameKind::kDispatch;
  exchange.dispatch.epoch = Epoch(1);
  exchange.dispatch.hidden = 128;
  exchange.dispatch.pairs = 1;
  open->link->Post(std::span(&exchange, 1)).IgnoreError();
  EXPECT_THAT(std::string(open->link->Wait(std::chrono::steady_clock::now() + kPatience).message()),
              HasSubstr("worker 1 lost"));

  FakeWorker third(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(third.JoinAndLoad("third"));
  EXPECT_EQ(third.slot(), WorkerId(1));
  std::thread other([&] { third.OpenEpoch(); });
  first.OpenEpoch();
  other.join();
  WaitServing(2);
  EXPECT_TRUE(controller_.Current().ok());
}

TEST_F(ClusterControllerTest, ALeaseThatEndsMakesTheWorkerASuspect) {
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  clock_.Advance(std::chrono::milliseconds(1500));
  first.Say([](auto& message) { message.mutable_heartbeat()->set_sequence(1); });
  EXPECT_EQ(first.session().Next().lease_renewed().sequence(), 1u);
  clock_.Advance(std::chrono::milliseconds(1000));
  const LostWorker lost = watcher_.WaitLost();
  EXPECT_EQ(lost.worker, WorkerId(1));
  EXPECT_TRUE(lost.hung);
  EXPECT_TRUE(second.session().Next().has_dismissed());
  EXPECT_EQ(second.session().WaitEnd().code(), absl::StatusCode::kAborted);
}

TEST_F(ClusterControllerTest, ADataPlaneDeadlineMakesTheSilentWorkerASuspect) {
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  controller_.OnFault(
      Epoch(1), {absl::DeadlineExceededError("worker 0 did not answer layer 1 within 2000 ms"),
                 {WorkerId(0)},
                 false});
  EXPECT_THAT(std::string(controller_.Current().status().message()),
              HasSubstr("worker 0 did not answer"));
  const LostWorker lost = watcher_.WaitLost();
  EXPECT_EQ(lost.worker, WorkerId(0));
  EXPECT_TRUE(lost.hung);
  EXPECT_EQ(first.session().WaitEnd().code(), absl::StatusCode::kAborted);
}

TEST_F(ClusterControllerTest, AFaultOfAnOldEpochIsIgnored) {
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  controller_.OnFault(Epoch(0), {absl::UnavailableError("worker 0 lost"), {WorkerId(0)}, true});
  EXPECT_TRUE(controller_.Current().ok());
}

TEST_F(ClusterControllerTest, AFaultWithoutASuspectKeepsTheMembersOverAFreshEpoch) {
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  controller_.OnFault(Epoch(1), {absl::InternalError("arm failed"), {}, true});
  std::thread other([&] { second.OpenEpoch(); });
  first.OpenEpoch();
  other.join();
  WaitServing(2);
}

TEST_F(ClusterControllerTest, AWorkerThatLeavesIsDismissedInOrder) {
  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(Serve(first, second));
  second.Say([](auto& message) { message.mutable_leave()->set_reason("asked to stop"); });
  EXPECT_TRUE(second.session().Next().has_dismissed());
  EXPECT_TRUE(second.session().WaitEnd().ok());
  EXPECT_TRUE(watcher_.WaitLost().left);
}

TEST_F(ClusterControllerTest, RefusesStrangers) {
  const auto refused = [&](const std::function<void(v1::WorkerMessage&)>& fill) {
    FakeWorker worker(controller_, transport_);
    worker.Say(fill);
    return worker.session().WaitEnd();
  };
  EXPECT_EQ(refused([](auto& message) { message.mutable_heartbeat(); }).code(),
            absl::StatusCode::kInvalidArgument);
  absl::Status status = refused([](auto& message) {
    FakeWorker::FillJoin(message, "x");
    message.mutable_join()->mutable_model()->set_num_experts(6);
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("6 experts"));
  status = refused([](auto& message) {
    FakeWorker::FillJoin(message, "x");
    message.mutable_join()->set_protocol_version(99);
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("protocol version: wanted 1, got 99"));
  EXPECT_EQ(refused([](auto& message) { FakeWorker::FillJoin(message, ""); }).code(),
            absl::StatusCode::kInvalidArgument);

  FakeWorker first(controller_, transport_), second(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(first.JoinAndLoad("first"));
  ASSERT_NO_FATAL_FAILURE(second.JoinAndLoad("second"));
  EXPECT_EQ(refused([](auto& message) { FakeWorker::FillJoin(message, "third"); }).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(ClusterControllerTest, ASliceOfTheWrongSizeIsNotServed) {
  FakeWorker worker(controller_, transport_);
  worker.Say([](auto& message) { FakeWorker::FillJoin(message, "short"); });
  ASSERT_TRUE(worker.session().Next().has_assignment());
  worker.Say([](auto& message) { message.mutable_slice_ready()->set_num_experts(1); });
  EXPECT_THAT(watcher_.WaitLost().reason, HasSubstr("wanted 5 experts, got 1"));
}

TEST_F(ClusterControllerTest, StopEndsEverySession) {
  FakeWorker joined(controller_, transport_), silent(controller_, transport_);
  ASSERT_NO_FATAL_FAILURE(joined.JoinAndLoad("first"));
  controller_.Stop();
  EXPECT_EQ(joined.session().WaitEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(silent.session().WaitEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(controller_.Current().ok());
}

}  // namespace
}  // namespace sheaf
