#include "exchange/gather/link_ranks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "base/status.h"

namespace sheaf {
namespace {

// How often a rank looks for a part before it sleeps: a part of the same host comes within tens of
// microseconds.
constexpr int kLooksBeforeSleep = 2000;

FrameHeader HeaderOf(FrameKind kind, uint32_t model, StepId step, int rank, uint64_t number,
                     size_t payload_bytes) {
  FrameHeader header;
  header.kind = kind;
  header.element = kind == FrameKind::kStepOver ? FrameElement::kText : FrameElement::kNone;
  header.sequence = number;
  header.step = step;
  header.layer = LayerId(rank);
  header.model = model;
  header.payload_bytes = payload_bytes;
  return header;
}

absl::Status SendOn(FrameLink& link, FrameHeader header, std::span<const uint8_t> payload) {
  SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> memory, link.Reserve(payload.size()));
  if (!payload.empty()) std::memcpy(memory.data(), payload.data(), payload.size());
  return link.Send(header);
}

std::span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()),
          std::min(text.size(), size_t{kMaxErrorTextBytes})};
}

std::string TextOf(std::span<const uint8_t> payload) {
  return OneLine(std::string(payload.begin(), payload.end()));
}

RankEnd EndOf(const absl::Status& why) {
  switch (why.code()) {
    case absl::StatusCode::kUnavailable:
      return RankEnd::kClosed;
    case absl::StatusCode::kDeadlineExceeded:
      return RankEnd::kLate;
    case absl::StatusCode::kInvalidArgument:
      return RankEnd::kNonsense;
    case absl::StatusCode::kUnauthenticated:
      return RankEnd::kForged;
    default:
      return RankEnd::kOther;
  }
}

absl::Status Unexpected(const FrameHeader& header, const char* wanted) {
  return absl::InvalidArgumentError(absl::StrFormat("wanted %s, got %s", wanted, Describe(header)));
}

}  // namespace

HubRanks::HubRanks(int num_ranks, uint32_t model, Bell& bell, const Clock& clock,
                   RankPatience patience)
    : num_ranks_(num_ranks),
      model_(model),
      bell_(bell),
      clock_(clock),
      patience_(patience),
      peers_(static_cast<size_t>(num_ranks)),
      parts_(static_cast<size_t>(num_ranks)),
      offered_(static_cast<size_t>(num_ranks)),
      present_(static_cast<size_t>(num_ranks)) {}

HubRanks::~HubRanks() = default;

void HubRanks::Offer(int rank, std::unique_ptr<FrameLink> link, std::string who) {
  absl::MutexLock lock(&mutex_);
  offered_[static_cast<size_t>(rank)] = {std::move(link), std::move(who)};
  SetPresent(rank);
}

void HubRanks::Withdraw(int rank) {
  std::unique_ptr<FrameLink> offered;  // closed outside of the lock
  absl::MutexLock lock(&mutex_);
  offered = std::move(offered_[static_cast<size_t>(rank)].link);
  SetAbsent(rank, RankEnd::kClosed);
}

void HubRanks::SetPresent(int rank) {
  if (present_[static_cast<size_t>(rank)]) return;
  present_[static_cast<size_t>(rank)] = true;
  tally_.groups += ++tally_.present == num_ranks_;
}

void HubRanks::SetAbsent(int rank, RankEnd why) {
  if (!present_[static_cast<size_t>(rank)]) return;
  present_[static_cast<size_t>(rank)] = false;
  --tally_.present;
  ++tally_.lost[static_cast<size_t>(why)];
}

RankTally HubRanks::tally() const {
  absl::MutexLock lock(&mutex_);
  return tally_;
}

absl::Status HubRanks::Ready() const {
  absl::MutexLock lock(&mutex_);
  std::string absent;
  for (int rank = 1; rank < num_ranks_; ++rank) {
    if (!present_[static_cast<size_t>(rank)])
      absl::StrAppend(&absent, absent.empty() ? "" : ", ", rank);
  }
  if (absent.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrFormat("waiting for attention rank %s of %d", absent, num_ranks_));
}

bool HubRanks::AdoptLinks() {
  std::vector<std::unique_ptr<FrameLink>> replaced;  // closed outside of the lock
  absl::MutexLock lock(&mutex_);
  bool any = false;
  for (size_t rank = 1; rank < peers_.size(); ++rank) {
    if (offered_[rank].link == nullptr) {
      if (!present_[rank]) replaced.push_back(std::move(peers_[rank].link));
      continue;
    }
    replaced.push_back(std::move(peers_[rank].link));
    peers_[rank] = {std::move(offered_[rank].link), std::move(offered_[rank].who), "", false};
    any = true;
  }
  return any;
}

std::vector<int> HubRanks::TakeLate() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(late_, {});
}

absl::Status HubRanks::Lose(int rank, const absl::Status& why) {
  Peer& peer = peers_[static_cast<size_t>(rank)];
  peer.link = nullptr;
  peer.lost = absl::StrFormat("%s: %s", peer.who, why.message());
  figures_.lost_rank = true;
  absl::MutexLock lock(&mutex_);
  if (offered_[static_cast<size_t>(rank)].link == nullptr) SetAbsent(rank, EndOf(why));
  return absl::UnavailableError(
      absl::StrFormat("attention rank %d (%s): %s", rank, peer.who, why.message()));
}

absl::Status HubRanks::Send(int rank, FrameHeader header, std::span<const uint8_t> payload) {
  const absl::Status sent = SendOn(*peers_[static_cast<size_t>(rank)].link, header, payload);
  figures_.sent_bytes += static_cast<int64_t>(payload.size());
  return sent.ok() ? sent : Lose(rank, sent);
}

absl::Status HubRanks::Begin(StepId step, int rows, std::span<const uint8_t> plan) {
  step_ = step;
  number_ = 0;
  longest_wait_ = patience_.step + rows * patience_.row;
  for (int rank = 1; rank < num_ranks_; ++rank) {
    const Peer& peer = peers_[static_cast<size_t>(rank)];
    if (peer.link == nullptr) {
      return absl::UnavailableError(absl::StrFormat("attention rank %d has no link%s", rank,
                                                    peer.lost.empty() ? "" : ": " + peer.lost));
    }
  }
  open_ = true;
  for (int rank = 1; rank < num_ranks_; ++rank) {
    SHEAF_RETURN_IF_ERROR(Send(
        rank, HeaderOf(FrameKind::kStepPlan, model_, step_, 0, 0, plan.size()), plan));
  }
  return absl::OkStatus();
}

absl::Status HubRanks::Look(int rank) {
  Peer& peer = peers_[static_cast<size_t>(rank)];
  while (!peer.arrived) {
    const auto next = peer.link->Next();
    if (!next.ok()) return Lose(rank, next.status());
    if (!next->has_value()) return absl::OkStatus();
    const ArrivedFrame& frame = **next;
    if (frame.header.step != step_) continue;  // of a step that was ended
    if (frame.header.kind == FrameKind::kStepOver) {
      return absl::InternalError(
          absl::StrFormat("attention rank %d (%s): %s", rank, peer.who, TextOf(frame.payload)));
    }
    if (frame.header.kind != FrameKind::kPart || frame.header.sequence != number_ ||
        frame.header.layer != LayerId(rank)) {
      return Lose(rank, Unexpected(frame.header, "its part of the gather"));
    }
    peer.arrived = true;
    parts_[static_cast<size_t>(rank)] = frame.payload;
    figures_.received_bytes += static_cast<int64_t>(frame.payload.size());
    for (int other = 1; other < num_ranks_; ++other) {
      if (other == rank) continue;
      SHEAF_RETURN_IF_ERROR(Send(
          other, HeaderOf(FrameKind::kPart, model_, step_, rank, number_, frame.payload.size()),
          frame.payload));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RankGroup::Parts> HubRanks::Gather(std::span<const uint8_t> own) {
  if (!open_) return absl::AbortedError("the step is over");
  ++number_;
  parts_[0] = own;
  int missing = num_ranks_ - 1;
  for (int rank = 1; rank < num_ranks_; ++rank) {
    Peer& peer = peers_[static_cast<size_t>(rank)];
    peer.link->Release();
    peer.arrived = false;
    SHEAF_RETURN_IF_ERROR(Send(
        rank, HeaderOf(FrameKind::kPart, model_, step_, 0, number_, own.size()), own));
  }
  ++figures_.gathers;
  const TimePoint sent = clock_.Now();
  const TimePoint deadline = sent + longest_wait_;
  for (int looks = 0;; ++looks) {
    const uint32_t rings = bell_.rings();
    missing = 0;
    for (int rank = 1; rank < num_ranks_; ++rank) {
      if (peers_[static_cast<size_t>(rank)].arrived) continue;
      SHEAF_RETURN_IF_ERROR(Look(rank));
      missing += peers_[static_cast<size_t>(rank)].arrived ? 0 : 1;
    }
    if (missing == 0) {
      figures_.waited += clock_.Now() - sent;
      return Parts(parts_);
    }
    if (looks < kLooksBeforeSleep) continue;
    bell_.WaitPast(rings, deadline);
    const TimePoint now = clock_.Now();
    if (now < deadline) continue;
    figures_.waited += now - sent;
    for (int rank = 1; rank < num_ranks_; ++rank) {
      if (peers_[static_cast<size_t>(rank)].arrived) continue;
      {
        absl::MutexLock lock(&mutex_);
        late_.push_back(rank);
      }
      return Lose(
          rank, absl::DeadlineExceededError(absl::StrFormat(
                    "no part of gather %d of step %d within %d ms", number_, step_.value(),
                    std::chrono::duration_cast<std::chrono::milliseconds>(longest_wait_).count())));
    }
  }
}

void HubRanks::Abort(const absl::Status& why) {
  if (!std::exchange(open_, false)) return;
  const std::string text(why.message());
  for (int rank = 1; rank < num_ranks_; ++rank) {
    if (peers_[static_cast<size_t>(rank)].link == nullptr) continue;
    const std::span<const uint8_t> bytes = BytesOf(text);
    Send(rank, HeaderOf(FrameKind::kStepOver, model_, step_, 0, 0, bytes.size()), bytes)
        .IgnoreError();
  }
}

LeafRank::LeafRank(int rank, int num_ranks, uint32_t model, std::unique_ptr<FrameLink> link,
                   Bell& bell)
    : rank_(rank),
      num_ranks_(num_ranks),
      model_(model),
      link_(std::move(link)),
      bell_(bell),
      parts_(static_cast<size_t>(num_ranks)) {}

absl::Status LeafRank::Send(FrameHeader header, std::span<const uint8_t> payload) {
  const absl::Status sent = SendOn(*link_, header, payload);
  if (sent.ok()) return sent;
  return absl::UnavailableError(absl::StrCat("the link to rank 0: ", sent.message()));
}

absl::StatusOr<LeafRank::Plan> LeafRank::AwaitPlan(const std::function<bool()>& stop) {
  open_ = false;
  link_->Release();
  for (;;) {
    const uint32_t rings = bell_.rings();
    if (stop()) return absl::CancelledError("told to stop");
    auto next = link_->Next();
    if (!next.ok()) {
      return absl::UnavailableError(absl::StrCat("the link to rank 0: ", next.status().message()));
    }
    if (!next->has_value()) {
      bell_.WaitPast(rings, std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
      continue;
    }
    if ((*next)->header.kind != FrameKind::kStepPlan) continue;  // of a step that is over here
    step_ = (*next)->header.step;
    number_ = 0;
    open_ = true;
    return Plan{step_, (*next)->payload};
  }
}

absl::StatusOr<RankGroup::Parts> LeafRank::Gather(std::span<const uint8_t> own) {
  if (!open_) return absl::AbortedError("the step is over");
  link_->Release();
  ++number_;
  SHEAF_RETURN_IF_ERROR(
      Send(HeaderOf(FrameKind::kPart, model_, step_, rank_, number_, own.size()), own));
  parts_[static_cast<size_t>(rank_)] = own;
  int missing = num_ranks_ - 1;
  for (int looks = 0; missing > 0;) {
    const uint32_t rings = bell_.rings();
    auto next = link_->Next();
    if (!next.ok()) {
      return absl::UnavailableError(absl::StrCat("the link to rank 0: ", next.status().message()));
    }
    if (!next->has_value()) {
      if (++looks >= kLooksBeforeSleep) {
        bell_.WaitPast(rings, std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
      }
      continue;
    }
    const FrameHeader& header = (*next)->header;
    if (header.step != step_) return Unexpected(header, "a frame of the step under way");
    if (header.kind == FrameKind::kStepOver) {
      open_ = false;
      return absl::AbortedError(TextOf((*next)->payload));
    }
    const int part = header.layer.value();
    if (header.kind != FrameKind::kPart || header.sequence != number_ || part >= num_ranks_ ||
        part == rank_) {
      return Unexpected(header, "a part of the gather under way");
    }
    parts_[static_cast<size_t>(part)] = (*next)->payload;
    --missing;
  }
  return Parts(parts_);
}

void LeafRank::Abort(const absl::Status& why) {
  if (!std::exchange(open_, false)) return;
  const std::string text(why.message());
  const std::span<const uint8_t> bytes = BytesOf(text);
  Send(HeaderOf(FrameKind::kStepOver, model_, step_, rank_, 0, bytes.size()), bytes).IgnoreError();
}

}  // namespace sheaf
