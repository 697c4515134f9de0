#include "worker/serve/link_server.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "base/status.h"

namespace sheaf {
namespace {

// Whatever happens rings the bell; this is for what nobody thought of.
constexpr Duration kLook = std::chrono::seconds(1);
// A link that was full may have room.
constexpr Duration kFullPause = std::chrono::milliseconds(5);

TimePoint Now() { return std::chrono::steady_clock::now(); }

ServedDispatch::Outcome OutcomeOf(FrameKind kind) {
  switch (kind) {
    case FrameKind::kCombine:
      return ServedDispatch::Outcome::kCombine;
    case FrameKind::kNotHeld:
      return ServedDispatch::Outcome::kNotHeld;
    default:
      return ServedDispatch::Outcome::kError;
  }
}

}  // namespace

LinkServer::LinkServer(const ModelIdentity& model, int num_threads, const HeldExperts& experts,
                       Holdings holdings, Bell& bell, OnSeen on_seen, ServeObserver* observer,
                       ExchangeWait wait, Duration full_patience)
    : model_(model),
      experts_(experts),
      bell_(bell),
      on_seen_(std::move(on_seen)),
      observer_(observer),
      wait_(wait),
      full_patience_(full_patience),
      num_threads_(std::max(1, num_threads)),
      announced_(std::move(holdings)),
      thread_([this] { Run(); }) {}

LinkServer::~LinkServer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  bell_.Ring();
  thread_.join();
}

void LinkServer::AddLink(std::unique_ptr<FrameLink> link, const Hello& hello) {
  Client client;
  client.link = std::move(link);
  client.router = hello.router;
  {
    absl::MutexLock lock(&mutex_);
    arrived_.push_back(std::move(client));
  }
  bell_.Ring();
}

void LinkServer::Announce(const Holdings& holdings) {
  {
    absl::MutexLock lock(&mutex_);
    announced_ = holdings;
  }
  bell_.Ring();
}

void LinkServer::Run() {
  pthread_setname_np(pthread_self(), "sheaf-serve");
  pool_ = std::make_unique<ThreadPool>(num_threads_);
  runner_ = std::make_unique<ExpertRunner>(experts_, model_, *pool_);
  for (;;) {
    const uint32_t rings = bell_.rings();
    if (!TakeNews()) break;
    bool worked = false;
    // One dispatch each, from the one after the last round's first on.
    const size_t num_clients = clients_.size();
    for (size_t i = 0; i < num_clients; ++i)
      worked = ServeOne(clients_[(next_client_ + i) % num_clients]) || worked;
    if (num_clients > 0) next_client_ = (next_client_ + 1) % num_clients;
    ForgetBroken();
    TellSeen();
    if (observer_ != nullptr) observer_->OnRound();
    if (worked) continue;
    if (!asked_.empty()) {
      AnswerOldest();
      continue;
    }
    if (wait_.park_threads) pool_->Park();
    if (bell_.LookPast(rings, wait_.look)) continue;
    pool_->Park();
    const bool full = std::any_of(clients_.begin(), clients_.end(), [](const Client& client) {
      return client.full_since.has_value();
    });
    bell_.WaitPast(rings, Now() + (full ? kFullPause : kLook));
  }
  AnswerAll();
  clients_.clear();
}

bool LinkServer::TakeNews() {
  std::vector<Client> arrived;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return false;
    arrived.swap(arrived_);
    if (announced_.number != number_) {
      number_ = announced_.number;
      encoded_ = announced_.Encode();
    }
  }
  if (!arrived.empty()) AnswerAll();
  for (Client& client : clients_) {
    if (client.told != number_) Tell(client);
  }
  for (Client& client : arrived) Adopt(std::move(client));
  return true;
}

void LinkServer::Adopt(Client client) {
  for (Client& old : clients_) {
    if (old.router == client.router && client.router != InstanceId())
      Break(old, absl::UnavailableError("its router made a new one"));
  }
  spdlog::info("link {:016x} to router {:016x} over {}", client.link->id().value(),
               client.router.value(), OneLine(client.link->path()));
  Tell(client);
  // It never knew of anything else.
  client.seen = number_;
  clients_.push_back(std::move(client));
  ForgetBroken();
  if (observer_ != nullptr) observer_->OnLinks(static_cast<int>(clients_.size()));
}

void LinkServer::Tell(Client& client) {
  if (client.broken) return;
  const absl::StatusOr<std::span<uint8_t>> payload = client.link->Reserve(encoded_.size());
  if (absl::IsResourceExhausted(payload.status())) {
    const TimePoint now = Now();
    if (!client.full_since.has_value()) client.full_since = now;
    if (now - *client.full_since < full_patience_) return;  // tried again in the next round
  }
  if (!payload.ok()) {
    Break(client, payload.status());
    return;
  }
  client.full_since.reset();
  std::memcpy(payload->data(), encoded_.data(), encoded_.size());
  FrameHeader header;
  header.kind = FrameKind::kHoldings;
  header.element = FrameElement::kBitmap;
  header.sequence = number_;
  header.model = static_cast<uint32_t>(model_.digest);
  header.payload_bytes = encoded_.size();
  client.told = number_;
  if (const absl::Status sent = client.link->Send(header); !sent.ok()) Break(client, sent);
}

bool LinkServer::ServeOne(Client& client) {
  while (!client.broken && !client.asked) {
    const absl::StatusOr<std::optional<ArrivedFrame>> frame = client.link->Next();
    if (!frame.ok()) {
      Break(client, frame.status());
      return false;
    }
    if (!frame->has_value()) return false;
    const FrameKind kind = (*frame)->header.kind;
    if (kind == FrameKind::kDispatch) {
      Begin(client, **frame);
      return true;
    }
    absl::Status handled;
    if (kind == FrameKind::kHoldingsSeen) {
      handled = MarkSeen(client, (*frame)->header.sequence);
    } else {
      handled = absl::InvalidArgumentError(
          absl::StrFormat("a router sent a %s", Describe((*frame)->header)));
    }
    client.link->Release();
    if (!handled.ok()) Break(client, handled);
  }
  return false;
}

void LinkServer::Begin(Client& client, const ArrivedFrame& dispatch) {
  asked_.push_back({&client, dispatch.header, Now()});
  client.asked = true;
  runner_->Begin(dispatch);
  if (runner_->under_way() == runner_->depth()) AnswerOldest();
}

void LinkServer::AnswerOldest() {
  const Asked asked = asked_.front();
  asked_.pop_front();
  asked.client->asked = false;
  const absl::Status answered = Answer(asked);
  asked.client->link->Release();
  if (!answered.ok()) Break(*asked.client, answered);
  answered_at_ = Now();
}

void LinkServer::AnswerAll() {
  while (!asked_.empty()) AnswerOldest();
}

absl::Status LinkServer::Answer(const Asked& asked) {
  FrameLink& link = *asked.client->link;
  SHEAF_ASSIGN_OR_RETURN(const FrameHeader answer, runner_->Finish([&link](size_t bytes) {
                           return link.Reserve(bytes);
                         }));
  // Before the answer: the router may dispatch the next layer as soon as it has it, and then finds
  // room where this one lay.
  link.Release();
  SHEAF_RETURN_IF_ERROR(link.Send(answer));
  if (observer_ == nullptr) return absl::OkStatus();
  ServedDispatch served;
  served.outcome = OutcomeOf(answer.kind);
  served.router = asked.client->router;
  served.tokens = asked.dispatch.tokens;
  served.pairs = asked.dispatch.pairs;
  served.received_bytes = static_cast<int64_t>(kFrameHeaderBytes + asked.dispatch.payload_bytes);
  served.sent_bytes = static_cast<int64_t>(kFrameHeaderBytes + answer.payload_bytes);
  served.busy = Now() - std::max(asked.start, answered_at_);
  observer_->OnServed(served);
  return absl::OkStatus();
}

absl::Status LinkServer::MarkSeen(Client& client, uint64_t number) {
  if (number > client.told) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "it has seen holdings %d, which is after the last ones (%d)", number, client.told));
  }
  client.seen = std::max(client.seen, number);
  return absl::OkStatus();
}

void LinkServer::Break(Client& client, const absl::Status& why) {
  if (client.broken) return;
  client.broken = true;
  if (observer_ != nullptr) observer_->OnLinkEnded(why);
  if (absl::IsUnauthenticated(why)) {
    // Who sits between the two can cause as many as he likes.
    if (const auto rest = forged_frames_.Say(Now()); rest.has_value()) {
      spdlog::warn("link {:016x} to router {:016x} closed: {}{}", client.link->id().value(),
                   client.router.value(), OneLine(std::string(why.message())), *rest);
    }
    return;
  }
  spdlog::info("link {:016x} to router {:016x} closed: {}", client.link->id().value(),
               client.router.value(), OneLine(std::string(why.message())));
}

void LinkServer::ForgetBroken() {
  const auto broken = [](const Client& client) { return client.broken; };
  if (std::none_of(clients_.begin(), clients_.end(), broken)) return;
  AnswerAll();
  std::erase_if(clients_, broken);
  if (observer_ != nullptr) observer_->OnLinks(static_cast<int>(clients_.size()));
}

void LinkServer::TellSeen() {
  uint64_t seen = number_;
  for (const Client& client : clients_) seen = std::min(seen, client.seen);
  if (seen <= told_seen_) return;
  told_seen_ = seen;
  if (on_seen_) on_seen_(seen);
}

}  // namespace sheaf
