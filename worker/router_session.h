#pragma once
// RouterSession: the worker's end of one sheaf.v1.Cluster.Session stream.
//
// Threads    Open, Send and Close from the control thread; `on_message` and `on_end` from a reader
//            thread, in order, on_end last and once. They must not block.
// Ownership  the callbacks must stay valid until Close() has returned.

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "sheaf/v1/cluster.grpc.pb.h"

namespace sheaf {

class RouterSession {
 public:
  struct Callbacks {
    std::function<void(v1::RouterMessage)> on_message;
    std::function<void()> on_end;
  };

  // Starts connecting; a router that is not there shows up as on_end.
  RouterSession(const std::string& router, Callbacks callbacks);
  ~RouterSession();

  // False: the stream is broken; on_end follows.
  bool Send(const v1::WorkerMessage& message);
  // Ends the stream if it has not ended and returns its status.
  absl::Status Close();

 private:
  const Callbacks callbacks_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<v1::Cluster::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::RouterMessage>> stream_;
  std::atomic<bool> ended_{false};  // by the router or the network
  std::thread reader_;
  bool closed_ = false;
  absl::Status status_;
};

}  // namespace sheaf
