#pragma once
// UcxEnd: one ucp_worker with its endpoints: sends frames, delivers frames to a sink, sleeps until
// something happens. Both link ends are built on it; it knows frames' headers but not their
// meaning.
//
// Threads    one at a time; Abort() from any thread.
// Waits      progress until nothing is left, arm, on BUSY progress again, else poll the worker's
//            and the abort descriptor until the deadline. Skipping the BUSY case would lose
//            wake-ups.
// Errors     the first one stays: a lost peer, Abort's status.

#include <ucp/api/ucp.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "exchange/transport.h"
#include "exchange/ucx/ucx_context.h"

namespace sheaf {

// Gets the frames that arrive, from inside ProgressUntil.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  // Where the payload of this frame goes (header.payload_bytes), or null to drop it. `tag` comes
  // back in Landed.
  virtual uint8_t* Accept(const FrameHeader& header, void** tag) = 0;
  virtual void Landed(const FrameHeader& header, void* tag, const absl::Status& status) = 0;
};

class UcxEnd {
 public:
  static absl::StatusOr<std::unique_ptr<UcxEnd>> Create(
      std::shared_ptr<UcxTransport::Context> context, FrameSink& sink);
  ~UcxEnd();

  const std::string& address() const { return address_; }

  // `name` is how errors call the peer ("worker 1", "router"); `peer` comes back as lost_peer().
  absl::Status AddPeer(int32_t peer, const std::string& name, const std::string& address);
  absl::Status Send(int32_t peer, const FrameHeader& header, std::span<const uint8_t> payload);
  size_t sends_in_flight() const { return sends_in_flight_; }

  // OK when done() (looked at after every bit of progress); the poisoning error; kDeadlineExceeded,
  // which does not poison.
  absl::Status ProgressUntil(const std::function<bool()>& done, TimePoint deadline);

  void Abort(absl::Status why);
  void Close();

  absl::Status poison() const;
  int32_t lost_peer() const;  // kNobody unless the poison is a lost peer
  std::string PathTo(int32_t peer) const;

  static constexpr int32_t kNobody = -2;

 private:
  struct Peer {
    UcxEnd* end = nullptr;
    int32_t id = kNobody;
    std::string name;
    ucp_ep_h endpoint = nullptr;
    std::string path;  // "tcp"
  };
  // A frame under way; UCX reads the header until the send completes.
  struct SendOperation {
    UcxEnd* end = nullptr;
    Peer* peer = nullptr;
    FrameHeaderBytes header{};
  };
  struct ReceiveOperation {
    UcxEnd* end = nullptr;
    FrameHeader header;
    void* tag = nullptr;
  };

  UcxEnd(std::shared_ptr<UcxTransport::Context> context, FrameSink& sink);
  absl::Status Open();
  void Poison(absl::Status status, int32_t lost_peer);
  void DescribePath(Peer& peer);

  static void OnPeerError(void* argument, ucp_ep_h endpoint, ucs_status_t status);
  static void OnSent(void* request, ucs_status_t status, void* argument);
  static ucs_status_t OnMessage(void* argument, const void* header, size_t header_bytes, void* data,
                                size_t bytes, const ucp_am_recv_param_t* parameters);
  static void OnReceived(void* request, ucs_status_t status, size_t bytes, void* argument);

  // Constant after Open.
  const std::shared_ptr<UcxTransport::Context> context_;
  FrameSink& sink_;
  ucp_worker_h worker_ = nullptr;
  int worker_fd_ = -1;
  int abort_fd_ = -1;
  std::string address_;

  // The link's thread.
  std::map<int32_t, std::unique_ptr<Peer>> peers_;
  std::deque<SendOperation> send_memory_;
  std::vector<SendOperation*> free_sends_;
  std::deque<ReceiveOperation> receive_memory_;
  std::vector<ReceiveOperation*> free_receives_;
  size_t sends_in_flight_ = 0;
  size_t receives_in_flight_ = 0;
  bool closed_ = false;

  std::atomic<bool> poisoned_{false};
  mutable std::mutex mutex_;
  absl::Status poison_;          // guarded by mutex_
  int32_t lost_peer_ = kNobody;  // guarded by mutex_
};

}  // namespace sheaf
