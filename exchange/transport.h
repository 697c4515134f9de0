#pragma once
// The data plane between a router and its expert workers, as two ends of a link. One link = one
// epoch: it is opened once with fixed members, and the first error or Abort poisons it for good.
// The control plane (router/cluster, worker/) then opens a fresh one at the next epoch; nothing is
// ever repaired.
//
//   RouterLink  W workers: Post(dispatch, where the combine goes) ... Wait() for all of them.
//   WorkerLink  one router: Receive() a dispatch, Reply() with a combine or an error.
//
// Order of opening: both sides create their end and exchange address() over the control plane; the
// worker Connects and sits in Receive(); the router Connects, which ends with a hello round trip to
// every worker.
//
// Threads    one thread at a time uses a link (it may change hands between calls); Abort() from any
//            thread, any time.
// Ownership  buffers that the router's side passes in are borrowed until Wait() returns OK or the
//            link is Closed: after Close() the transport touches no caller memory. A received
//            dispatch and a reply buffer are the link's own memory.
// Errors     kUnavailable: a peer is lost; kDeadlineExceeded: it did not answer in time; kInternal:
//            a worker said that it cannot (its text); Abort's status. Messages name the worker and
//            the frame.
// Waits      block in the kernel, never spin unless asked to.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/frame.h"

namespace sheaf {

struct LinkPeer {
  WorkerId worker;
  std::string address;  // of its WorkerLink; opaque bytes
};

// One dispatch and the combine that answers it.
struct Exchange {
  WorkerId worker;
  FrameHeader dispatch;  // its epoch must be the link's
  std::span<const uint8_t> payload;
  std::span<uint8_t> combine;  // exactly the answer's size
};

// Why a link is poisoned. The control plane acts on it.
struct LinkFault {
  absl::Status status;
  // Lost, or silent at the deadline; empty when nobody in particular.
  std::vector<WorkerId> suspects;
  bool certain = false;  // the transport saw the peer go; false: it was silent for too long
};

class RouterLink {
 public:
  virtual ~RouterLink() = default;
  virtual Epoch epoch() const = 0;
  virtual const std::string& address() const = 0;

  virtual absl::Status Connect(std::span<const LinkPeer> peers, TimePoint deadline) = 0;
  // Prepares for the answers, then sends. Several Posts before a Wait are allowed.
  virtual absl::Status Post(std::span<const Exchange> exchanges) = 0;
  // All that was posted is answered.
  virtual absl::Status Wait(TimePoint deadline) = 0;

  virtual void Abort(absl::Status why) = 0;
  virtual void Close() = 0;

  // After an error.
  virtual LinkFault fault() const = 0;
  // What the path to a worker is made of, for the log ("shared memory", "tcp").
  virtual std::string PathTo(WorkerId worker) const = 0;
};

struct ReceivedDispatch {
  FrameHeader header;
  std::span<const uint8_t> payload;  // 4-byte aligned; valid until Reply() or the next Receive()
};

class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual Epoch epoch() const = 0;
  virtual const std::string& address() const = 0;

  virtual absl::Status Connect(const std::string& router_address) = 0;
  // Nothing at the deadline: kDeadlineExceeded, and the link is still good.
  virtual absl::StatusOr<ReceivedDispatch> Receive(TimePoint deadline) = 0;
  // Where the next Reply's payload goes: 64-byte aligned, valid until then. A link sends from there
  // without a copy where it can.
  virtual absl::StatusOr<std::span<uint8_t>> ReplyBuffer(size_t bytes) = 0;
  // Sends what is in the buffer, header.payload_bytes of it.
  virtual absl::Status Reply(const FrameHeader& header) = 0;

  virtual void Abort(absl::Status why) = 0;
  virtual void Close() = 0;
};

// Makes fresh ends; one per process. Threads: any.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual absl::StatusOr<std::unique_ptr<RouterLink>> NewRouterLink(Epoch epoch) = 0;
  virtual absl::StatusOr<std::unique_ptr<WorkerLink>> NewWorkerLink(Epoch epoch, WorkerId self) = 0;
};

}  // namespace sheaf
