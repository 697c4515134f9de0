#pragma once
// SimulatedNetwork: connections between processes that keep order and lose nothing until they
// break, as TCP does, over paths that are slow, jumpy, blocked in one or both directions.
//
//   delay, jitter    per message; messages of different connections overtake each other
//   blocked path     what is sent waits; goes on when the path is open again; the sender gives the
//                    connection up after user_timeout, the other end hears of it when it can
//   break            what was under way is lost; the two ends learn it at different times
//   process killed   its ends close; peers hear of it when the path lets them
//   process frozen   its kernel still accepts connections and messages; nobody answers
//   strays           messages of a closed connection that turn up on the next one between the same
//                    two: what a link's incarnation number is for
//
// Ownership  an end that nobody closed lives as long as its process.
// Threads    one.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "tests/simulation/event_queue.h"
#include "tests/simulation/process.h"
#include "tests/simulation/random.h"

namespace sheaf::simulation {

struct Message {
  virtual ~Message() = default;
};
using MessagePtr = std::shared_ptr<const Message>;

class SimulatedNetwork;

// One end of a connection.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  // Set by the owner; not called after Close or the process's end.
  std::function<void(const MessagePtr&)> on_message;
  std::function<void(const std::string& why)> on_closed;

  void Send(MessagePtr message, size_t bytes);
  // The peer hears of it after what was sent before.
  void Close();
  bool open() const { return open_; }
  // Sent and not yet arrived at the other process.
  size_t under_way() const { return sent_ - arrived_; }
  uint64_t connection() const { return connection_; }

 private:
  friend class SimulatedNetwork;
  enum class Item { kOpen, kMessage, kClose };
  struct Parcel {
    Item item = Item::kMessage;
    MessagePtr message;
    size_t bytes = 0;
    std::string text;
    uint64_t number = 0;
    bool stray = false;
  };

  SimulatedNetwork* network_ = nullptr;
  Process* owner_ = nullptr;
  uint64_t owner_life_ = 0;
  std::weak_ptr<Channel> peer_;
  uint64_t connection_ = 0;
  int port_ = 0;
  bool open_ = true;
  uint64_t breaks_ = 0;  // parcels sent before the last one are lost
  uint64_t sent_ = 0;
  uint64_t arrived_ = 0;
  TimePoint last_arrival_;
  std::deque<Parcel> flying_;  // sent by this end, in order
};
using ChannelPtr = std::shared_ptr<Channel>;

struct NetworkOptions {
  Duration delay = std::chrono::microseconds(50);
  Duration jitter = std::chrono::microseconds(100);
  double bytes_per_second = 1e9;
  Duration user_timeout = std::chrono::seconds(5);
  // Per message that was under way when its connection was closed; of connections to `stray_port`.
  double stray_chance = 0;
  int stray_port = 0;
};

class SimulatedNetwork {
 public:
  SimulatedNetwork(EventQueue& queue, Random random, NetworkOptions options)
      : queue_(queue), random_(random), options_(options) {}
  // Owners of ends are often held by what their ends call: here that is taken apart.
  ~SimulatedNetwork();

  using OnAccept = std::function<void(const ChannelPtr&)>;
  // Until the process ends.
  void Listen(Process& process, int port, OnAccept on_accept);
  // The end is there at once; what is sent follows the opening. Nobody there: on_closed.
  ChannelPtr Connect(Process& from, Process& to, int port);

  // The process was killed: its ends are closed by its kernel.
  void Killed(Process& process);
  // All connections between the two on `port`.
  void Break(Process& a, Process& b, int port);

  void Block(int from_host, int to_host);
  void Unblock(int from_host, int to_host);
  void UnblockAll();
  // Further delay of the path; 0 = as the others.
  void SetSlow(int from_host, int to_host, Duration delay);
  bool Blocked(int from_host, int to_host) const;
  bool Open(const Process& a, const Process& b) const {
    return !Blocked(a.host(), b.host()) && !Blocked(b.host(), a.host());
  }

  uint64_t messages(int port) const { return Find(port).first; }
  uint64_t bytes(int port) const { return Find(port).second; }

 private:
  friend class Channel;
  struct Path {
    bool blocked = false;
    Duration slow{0};
    std::vector<std::pair<std::weak_ptr<Channel>, Channel::Parcel>> waiting;
  };
  struct Listener {
    uint64_t life = 0;
    OnAccept on_accept;
  };
  using Hosts = std::pair<int, int>;

  void Transmit(const ChannelPtr& from, Channel::Parcel parcel);
  void Fly(const ChannelPtr& from, Channel::Parcel parcel);
  void Arrive(const ChannelPtr& from, const Channel::Parcel& parcel);
  void Deliver(const ChannelPtr& to, const Channel::Parcel& parcel);
  void CloseLocally(const ChannelPtr& end, const std::string& why);
  void KeepStrays(const ChannelPtr& receiver);
  void ReleaseStrays(const ChannelPtr& opened);
  Process* PeerOf(const Channel& end) const;
  std::pair<uint64_t, uint64_t> Find(int port) const {
    const auto at = traffic_.find(port);
    return at == traffic_.end() ? std::pair<uint64_t, uint64_t>{0, 0} : at->second;
  }

  EventQueue& queue_;
  Random random_;
  const NetworkOptions options_;
  uint64_t made_ = 0;
  std::map<Hosts, Path> paths_;
  std::map<std::pair<int, int>, Listener> listeners_;  // host, port
  std::map<int, std::pair<uint64_t, uint64_t>> traffic_;
  std::map<uint64_t, std::pair<ChannelPtr, ChannelPtr>> connections_;  // both ends
  std::map<Hosts, std::vector<Channel::Parcel>> strays_;  // from, to
  std::vector<std::weak_ptr<Channel>> ends_;  // that were ever made
};

}  // namespace sheaf::simulation
