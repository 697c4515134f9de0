#include "tests/simulation/simulated_network.h"

#include <algorithm>

namespace sheaf::simulation {
namespace {

// Of the memory of finished connections.
constexpr size_t kMaxStrays = 8;

}  // namespace

void Channel::Send(MessagePtr message, size_t bytes) {
  if (!open_) return;
  Parcel parcel;
  parcel.message = std::move(message);
  parcel.bytes = bytes;
  network_->Transmit(shared_from_this(), std::move(parcel));
}

void Channel::Close() {
  if (!open_) return;
  const ChannelPtr self = shared_from_this();
  network_->KeepStrays(self);
  open_ = false;
  on_message = nullptr;
  on_closed = nullptr;
  Parcel parcel;
  parcel.item = Item::kClose;
  parcel.text = "the peer closed the connection";
  network_->Transmit(self, std::move(parcel));
}

void SimulatedNetwork::Listen(Process& process, int port, OnAccept on_accept) {
  listeners_[{process.host(), port}] = {process.life(), std::move(on_accept)};
}

Process* SimulatedNetwork::PeerOf(const Channel& end) const {
  const ChannelPtr peer = end.peer_.lock();
  return peer ? peer->owner_ : nullptr;
}

SimulatedNetwork::~SimulatedNetwork() {
  for (const std::weak_ptr<Channel>& end : ends_) {
    const ChannelPtr living = end.lock();
    if (living == nullptr) continue;
    living->on_message = nullptr;
    living->on_closed = nullptr;
  }
}

ChannelPtr SimulatedNetwork::Connect(Process& from, Process& to, int port) {
  const auto client = std::make_shared<Channel>();
  const auto server = std::make_shared<Channel>();
  const uint64_t connection = ++made_;
  for (const auto& [end, owner] : {std::pair{client, &from}, std::pair{server, &to}}) {
    ends_.push_back(end);
    end->network_ = this;
    end->owner_ = owner;
    end->owner_life_ = owner->life();
    end->connection_ = connection;
    end->port_ = port;
  }
  client->peer_ = server;
  server->peer_ = client;
  connections_[connection] = {client, server};
  Channel::Parcel parcel;
  parcel.item = Channel::Item::kOpen;
  Transmit(client, std::move(parcel));
  return client;
}

void SimulatedNetwork::Transmit(const ChannelPtr& from, Channel::Parcel parcel) {
  if (parcel.item == Channel::Item::kMessage) {
    auto& traffic = traffic_[from->port_];
    ++traffic.first;
    traffic.second += parcel.bytes;
  }
  parcel.number = ++from->sent_;
  const Process* peer = PeerOf(*from);
  if (peer == nullptr) return;
  Path& path = paths_[{from->owner_->host(), peer->host()}];
  if (!path.blocked) return Fly(from, std::move(parcel));
  if (parcel.item != Channel::Item::kClose) {
    // The kernel sends again for a while, then tells the process.
    queue_.After(options_.user_timeout, [this, end = from, number = parcel.number] {
      if (!end->open_ || end->arrived_ >= number) return;
      const Process* other = PeerOf(*end);
      if (other == nullptr || !Blocked(end->owner_->host(), other->host())) return;
      CloseLocally(end, "no acknowledgement");
    });
  }
  path.waiting.emplace_back(from, std::move(parcel));
}

void SimulatedNetwork::Fly(const ChannelPtr& from, Channel::Parcel parcel) {
  const Process* peer = PeerOf(*from);
  if (peer == nullptr) return;
  const Path& path = paths_[{from->owner_->host(), peer->host()}];
  const auto transfer = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
      static_cast<double>(parcel.bytes) / options_.bytes_per_second));
  const TimePoint arrival = queue_.now() + options_.delay + path.slow + transfer +
                            random_.Between(Duration(0), options_.jitter);
  from->last_arrival_ = std::max(from->last_arrival_, arrival);
  from->flying_.push_back(parcel);
  queue_.At(from->last_arrival_, [this, from, breaks = from->breaks_, parcel = std::move(parcel)] {
    if (breaks != from->breaks_) return;
    if (!from->flying_.empty()) from->flying_.pop_front();
    Arrive(from, parcel);
  });
}

void SimulatedNetwork::Arrive(const ChannelPtr& from, const Channel::Parcel& parcel) {
  from->arrived_ = std::max(from->arrived_, parcel.number);
  const ChannelPtr to = from->peer_.lock();
  if (to == nullptr) return;
  if (parcel.item == Channel::Item::kOpen) {
    // The listener of today, whoever it was when the client looked it up.
    to->owner_life_ = to->owner_->life();
    const auto listener = listeners_.find({to->owner_->host(), to->port_});
    if (!to->owner_->alive() || listener == listeners_.end() ||
        listener->second.life != to->owner_->life()) {
      to->open_ = false;
      Channel::Parcel refusal;
      refusal.item = Channel::Item::kClose;
      refusal.text = "connection refused";
      Transmit(to, std::move(refusal));
      return;
    }
    to->owner_->At(
        queue_.now(),
        [this, to, host = to->owner_->host()] {
          if (!to->open_) return;
          listeners_[{host, to->port_}].on_accept(to);
          ReleaseStrays(to);
        },
        Process::Event::kMessage);
    return;
  }
  if (!to->owner_->alive() || to->owner_->life() != to->owner_life_) {
    if (parcel.item == Channel::Item::kClose) connections_.erase(to->connection_);
    return;
  }
  to->owner_->At(
      queue_.now(), [this, to, parcel] { Deliver(to, parcel); }, Process::Event::kMessage);
}

void SimulatedNetwork::Deliver(const ChannelPtr& to, const Channel::Parcel& parcel) {
  if (!to->open_) {
    if (parcel.item == Channel::Item::kClose) connections_.erase(to->connection_);
    return;
  }
  if (parcel.item == Channel::Item::kMessage) {
    if (to->on_message) {
      const auto handler = to->on_message;  // it may replace itself
      handler(parcel.message);
    }
    return;
  }
  to->open_ = false;
  const auto handler = std::move(to->on_closed);
  to->on_message = nullptr;
  to->on_closed = nullptr;
  connections_.erase(to->connection_);
  if (handler) handler(parcel.text);
}

void SimulatedNetwork::CloseLocally(const ChannelPtr& end, const std::string& why) {
  end->owner_->At(
      queue_.now(),
      [this, end, why] {
        if (!end->open_) return;
        const auto handler = end->on_closed;
        end->Close();
        if (handler) handler(why);
      },
      Process::Event::kMessage);
}

void SimulatedNetwork::Killed(Process& process) {
  std::vector<ChannelPtr> ends;
  for (const auto& [id, pair] : connections_) {
    for (const ChannelPtr& end : {pair.first, pair.second}) {
      if (end->owner_ == &process && end->open_ && end->owner_life_ == process.life()) {
        ends.push_back(end);
      }
    }
  }
  for (const ChannelPtr& end : ends) {
    end->open_ = false;
    end->on_message = nullptr;
    end->on_closed = nullptr;
    Channel::Parcel parcel;
    parcel.item = Channel::Item::kClose;
    parcel.text = "connection reset by peer";
    Transmit(end, std::move(parcel));
  }
}

void SimulatedNetwork::Break(Process& a, Process& b, int port) {
  std::vector<ChannelPtr> ends;
  for (const auto& [id, pair] : connections_) {
    const Process* x = pair.first->owner_;
    const Process* y = pair.second->owner_;
    if (pair.first->port_ != port || !((x == &a && y == &b) || (x == &b && y == &a))) continue;
    ends.push_back(pair.first);
    ends.push_back(pair.second);
  }
  for (const ChannelPtr& end : ends) {
    if (!end->open_) continue;
    KeepStrays(end);
    ++end->breaks_;
    end->flying_.clear();
    end->arrived_ = end->sent_;
    // One end may not notice for long.
    using std::chrono::milliseconds;
    const Duration notice = random_.Chance(0.2)
                                ? random_.Between(milliseconds(50), milliseconds(1000))
                                : random_.Between(milliseconds(0), milliseconds(2));
    queue_.After(notice, [this, end] {
      if (end->open_ && end->owner_->alive() && end->owner_->life() == end->owner_life_) {
        CloseLocally(end, "connection lost");
      }
    });
  }
}

void SimulatedNetwork::KeepStrays(const ChannelPtr& receiver) {
  if (options_.stray_chance <= 0 || receiver->port_ != options_.stray_port) return;
  const ChannelPtr sender = receiver->peer_.lock();
  if (sender == nullptr) return;
  auto& kept = strays_[{sender->owner_->host(), receiver->owner_->host()}];
  for (Channel::Parcel parcel : sender->flying_) {
    if (parcel.item != Channel::Item::kMessage || kept.size() >= kMaxStrays) continue;
    if (!random_.Chance(options_.stray_chance)) continue;
    parcel.stray = true;
    kept.push_back(std::move(parcel));
  }
}

void SimulatedNetwork::ReleaseStrays(const ChannelPtr& opened) {
  const ChannelPtr client = opened->peer_.lock();
  if (client == nullptr || opened->port_ != options_.stray_port) return;
  for (const ChannelPtr& receiver : {opened, client}) {
    const ChannelPtr sender = receiver->peer_.lock();
    if (sender == nullptr) continue;
    const auto kept = strays_.find({sender->owner_->host(), receiver->owner_->host()});
    if (kept == strays_.end()) continue;
    for (const Channel::Parcel& parcel : kept->second) {
      const Duration delay = random_.Between(Duration(0), std::chrono::milliseconds(20));
      queue_.After(delay, [this, receiver, parcel] {
        if (!receiver->owner_->alive() || receiver->owner_->life() != receiver->owner_life_) return;
        receiver->owner_->At(
            queue_.now(), [this, receiver, parcel] { Deliver(receiver, parcel); },
            Process::Event::kMessage);
      });
    }
    strays_.erase(kept);
  }
}

void SimulatedNetwork::Block(int from_host, int to_host) {
  paths_[{from_host, to_host}].blocked = true;
}

void SimulatedNetwork::Unblock(int from_host, int to_host) {
  Path& path = paths_[{from_host, to_host}];
  path.blocked = false;
  auto waiting = std::move(path.waiting);
  path.waiting.clear();
  for (auto& [end, parcel] : waiting) {
    const ChannelPtr from = end.lock();
    if (from == nullptr) continue;
    Fly(from, std::move(parcel));
  }
}

void SimulatedNetwork::UnblockAll() {
  std::vector<Hosts> blocked;
  for (auto& [hosts, path] : paths_) {
    path.slow = Duration(0);
    if (path.blocked) blocked.push_back(hosts);
  }
  for (const auto& [from, to] : blocked) Unblock(from, to);
}

void SimulatedNetwork::SetSlow(int from_host, int to_host, Duration delay) {
  paths_[{from_host, to_host}].slow = delay;
}

bool SimulatedNetwork::Blocked(int from_host, int to_host) const {
  const auto path = paths_.find({from_host, to_host});
  return path != paths_.end() && path->second.blocked;
}

}  // namespace sheaf::simulation
