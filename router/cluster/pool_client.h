#pragma once
// PoolClient: a router's session with the coordinator of its pool: the views that come, the reports
// that go. The coordinator is in this process (in_process_pool.h) or behind gRPC (remote_pool.h);
// the session is the same.
//
//   session   RouterHello, then PoolView .. in and RouterReport .. out; when it ends it is begun
//             again, with back-off, for ever. Meanwhile the last view stays: a coordinator that has
//             gone takes nothing away.
//
// Report may be called as often as one likes: it goes out once in report_every, and at once when it
// has orphans or wrong answers. Orphans are to be told again (any time within 3 s) for as long as a
// step waits for them; a report without any says that none does.
//
// Threads    Report and snapshot: any. on_view: the client's own thread; it must not block for
//            long.
// Ownership  borrows the clock. Destruction ends the session and joins the thread.
// Errors     a refused hello (token, another checkpoint) is told in snapshot().text and logged once
//            for each reason.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/model_identity.h"
#include "exchange/pool/link_pool.h"
#include "router/cluster/pending_report.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

struct PoolClientOptions {
  ModelIdentity model;
  InstanceId instance;  // of this process
  std::string host;
  int64_t pid = 0;
  std::string version;
  std::string token;
  Duration report_every = std::chrono::seconds(1);
  Duration first_back_off = std::chrono::milliseconds(100);
  Duration max_back_off = std::chrono::seconds(2);
};

// One stream. Destruction ends it.
class PoolStream {
 public:
  virtual ~PoolStream() = default;
  // False: broken; on_end comes.
  virtual bool Send(const v1::FromRouter& message) = 0;
};

// From a thread of the stream, in order; on_end last and once. They do not block.
struct PoolStreamEvents {
  std::function<void(v1::ToRouter)> on_message;
  std::function<void(const absl::Status&)> on_end;
};

// Begins streams; a coordinator that is not there shows up as on_end.
using OpenPoolStream = std::function<std::unique_ptr<PoolStream>(PoolStreamEvents events)>;

class PoolClient {
 public:
  using OnView = std::function<void(std::vector<WorkerEndpoint>)>;
  struct Snapshot {
    bool connected = false;
    std::string text;  // one line for people: the coordinator's, or why there is none
    int workers = 0;   // of the last view
  };

  PoolClient(PoolClientOptions options, const Clock& clock, OpenPoolStream open, OnView on_view);
  ~PoolClient();
  PoolClient(const PoolClient&) = delete;
  PoolClient& operator=(const PoolClient&) = delete;

  void Report(const v1::RouterReport& report);
  Snapshot snapshot() const;
  // Ends the session; nothing is called back any more. Idempotent.
  void Stop();

 private:
  void Run();
  // One session, until it ends. True: it was taken.
  bool RunSession();
  void TakeView(const v1::PoolView& view);
  bool stopping() const;

  const PoolClientOptions options_;
  const Clock& clock_;
  const OpenPoolStream open_;
  const OnView on_view_;

  mutable absl::Mutex mutex_;
  PendingReport pending_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::ToRouter> arrived_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // the present stream
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Snapshot snapshot_ ABSL_GUARDED_BY(mutex_);

  std::string last_reason_;  // the client's thread: logged already
  std::thread thread_;
};

// Wire form to what a link pool takes; views with nonsense in them (no key, no address) lose
// those workers.
std::vector<WorkerEndpoint> EndpointsOf(const v1::PoolView& view);

}  // namespace sheaf
