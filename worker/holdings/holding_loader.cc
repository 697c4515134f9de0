#include "worker/holdings/holding_loader.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace sheaf {
namespace {

constexpr int kLoaderNice = 10;
constexpr size_t kExpertsAhead = 4;  // asked for ahead of loading, a lane
// How soon a dropped expert that a job still reads is looked at again. A dispatch takes about as
// long.
constexpr Duration kLookAgain = std::chrono::milliseconds(1);

HoldingPlanOptions WithSizes(HoldingPlanOptions options, const ExpertEngine& engine) {
  options.memory_bytes = engine.memory_bytes();
  options.expert_bytes = std::max<size_t>(1, engine.expert_bytes());
  options.expert_file_bytes = std::max<uint64_t>(1, engine.expert_file_bytes());
  return options;
}

// Loading gives way to computing. Where it may not be asked for, it costs some latency alone.
void GiveWay() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kLoaderNice);
  const sched_param none{};
  sched_setscheduler(0, SCHED_BATCH, &none);
}

}  // namespace

bool MayBeTransient(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsResourceExhausted(status) ||
         absl::IsUnavailable(status) || absl::IsInternal(status);
}

HoldingLoader::HoldingLoader(HoldingPlanOptions options, ExpertEngine& engine, ExpertStore& store,
                             HoldingEvents& events)
    : engine_(engine),
      store_(store),
      events_(events),
      expert_file_bytes_(engine.expert_file_bytes()),
      ahead_(kExpertsAhead * static_cast<size_t>(engine.lanes())),
      plan_(WithSizes(options, engine)) {
  for (int lane = 0; lane < engine.lanes(); ++lane)
    lanes_.emplace_back([this, lane] { RunLane(lane); });
}

HoldingLoader::~HoldingLoader() { Stop(); }

void HoldingLoader::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.SignalAll();
  }
  for (std::thread& lane : lanes_) lane.join();
  lanes_.clear();
}

void HoldingLoader::Want(HoldRequest request) {
  absl::MutexLock lock(&mutex_);
  plan_.Want(std::move(request));
  told_quiet_ = false;
  wake_.SignalAll();
}

void HoldingLoader::Reload(const LayerExpert& pair) {
  absl::MutexLock lock(&mutex_);
  plan_.Reload(pair);
  told_quiet_ = false;
  wake_.SignalAll();
}

void HoldingLoader::Seen(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  plan_.Seen(number);
  wake_.SignalAll();
}

HoldingFacts HoldingLoader::facts() const {
  absl::MutexLock lock(&mutex_);
  return Facts();
}

Holdings HoldingLoader::announced() const {
  absl::MutexLock lock(&mutex_);
  return plan_.announced();
}

HoldingFacts HoldingLoader::Facts() const {
  HoldingFacts facts;
  facts.hold_number = plan_.hold_number();
  facts.left_bytes = plan_.left_bytes();
  facts.loaded_bytes = loaded_bytes_;
  facts.resident_bytes = store_.resident_bytes();
  facts.num_held = store_.num_held();
  facts.num_loaded = num_loaded_;
  facts.num_dropped = num_dropped_;
  facts.num_failed = num_failed_;
  facts.quiet = plan_.quiet();
  return facts;
}

void HoldingLoader::TellFacts() {
  const HoldingFacts facts = Facts();
  told_quiet_ = facts.quiet;
  events_.OnHoldingFacts(facts);
}

void HoldingLoader::RunLane(int lane) {
  GiveWay();
  absl::MutexLock lock(&mutex_);
  while (!stopping_) {
    FreeWhatNobodyReads();
    HoldingAction action = plan_.Next(std::chrono::steady_clock::now());
    switch (action.kind) {
      case HoldingAction::Kind::kLoad:
        LoadOne(action.experts.front(), lane);
        wake_.SignalAll();  // what another lane waits for may have changed
        break;
      case HoldingAction::Kind::kAnnounce:
        events_.OnHoldings(action.holdings);
        break;
      case HoldingAction::Kind::kDrop:
        for (const LayerExpert& pair : action.experts) LetGo(store_.Drop(pair));
        num_dropped_ += action.experts.size();
        TellFacts();
        break;
      case HoldingAction::Kind::kRefuse:
        ++num_failed_;
        events_.OnHoldFailed(action.number, action.experts.front(),
                             absl::ResourceExhaustedError(
                                 "the memory that this worker may use for experts is full"));
        break;
      case HoldingAction::Kind::kWait:
        if (plan_.quiet() && !told_quiet_) TellFacts();
        Wait(action.until);
        break;
    }
  }
}

void HoldingLoader::Wait(TimePoint until) {
  if (!going_.empty()) until = std::min(until, std::chrono::steady_clock::now() + kLookAgain);
  if (until == TimePoint::max()) {
    wake_.Wait(&mutex_);
    return;
  }
  const Duration left = until - std::chrono::steady_clock::now();
  wake_.WaitWithTimeout(&mutex_, absl::FromChrono(std::max(left, Duration::zero())));
}

void HoldingLoader::LoadOne(const LayerExpert& pair, int lane) {
  const uint64_t hold_number = plan_.hold_number();
  const std::optional<LayerExpert> ahead = plan_.Ahead(ahead_);
  mutex_.Unlock();
  if (ahead.has_value()) engine_.WillNeed(*ahead);
  absl::StatusOr<HeldExpertPtr> loaded = engine_.Load(pair, lane);
  mutex_.Lock();

  absl::Status why = loaded.status();
  if (loaded.ok()) {
    ++num_loaded_;
    loaded_bytes_ += expert_file_bytes_;
    const size_t bytes = (*loaded)->resident_bytes();
    switch (plan_.Loaded(pair, bytes)) {
      case HoldingPlan::Verdict::kKeep:
        LetGo(store_.Add(pair, *std::move(loaded)));
        break;
      case HoldingPlan::Verdict::kNotWanted:
        break;
      case HoldingPlan::Verdict::kNoRoom:
        why = absl::ResourceExhaustedError(absl::StrFormat(
            "its %d bytes are more than the memory left for experts on this worker", bytes));
        break;
    }
  } else {
    plan_.LoadFailed(pair);
  }
  if (!why.ok()) {
    ++num_failed_;
    events_.OnHoldFailed(hold_number, pair, why);
  }
  TellFacts();
}

void HoldingLoader::LetGo(HeldExpertPtr expert) {
  if (expert != nullptr) going_.push_back(std::move(expert));
}

void HoldingLoader::FreeWhatNobodyReads() {
  // Nobody finds them any more: a count of one stays one.
  std::erase_if(going_, [this](const HeldExpertPtr& expert) {
    mutex_.AssertHeld();
    if (expert.use_count() > 1) return false;
    plan_.Freed(expert->resident_bytes());
    return true;
  });
}

}  // namespace sheaf
