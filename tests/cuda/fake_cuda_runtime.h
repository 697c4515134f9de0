#pragma once
// FakeCudaRuntime: a GPU that is not there, to find what a real one would punish only sometimes.
//
// Memory     device addresses are a range of their own that no host access survives; the streams
//            reach the same bytes through another mapping (Host). Fresh and freed memory is
//            poisoned, and so is the destination of a copy to the host until the copy is done.
// Order      nothing runs when it is enqueued. Streams run when somebody waits for one, and by
//            chance at any call: each time a stream of those that can go on is drawn from the seed.
//            So whatever is not ordered by an event happens in any order, also far too late.
// Checks     copies outside an allocation, from or to memory that is not pinned, of freed memory,
//            calls of a thread without a device, a wait that nothing will end, an event in a graph,
//            a graph that is destroyed: violations(), and kInvalidValue.
// Faults     FakeCudaOptions and LoseAfter. Once lost, every call says why.
//
// Threads    any; what streams run is run by whoever waits, one at a time.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/device/cuda_runtime.h"

namespace sheaf::testing {

struct FakeCudaOptions {
  uint64_t seed = 1;
  int driver_version = 13000;
  int runtime_version = 13000;
  int devices = 1;
  CudaArchitecture architecture{9, 0};
  size_t total_bytes = size_t{64} << 20;
  size_t free_bytes = size_t{60} << 20;  // what others left
  // From the n-th operation of a stream on, 1-based: the device is lost with this error. 0: never.
  uint64_t lose_at = 0;
  CudaError lose_with = CudaError::kEccUncorrectable;
};

class FakeCudaRuntime final : public CudaRuntime {
 public:
  explicit FakeCudaRuntime(const FakeCudaOptions& options);
  ~FakeCudaRuntime() override;

  CudaError DriverVersion(int& version) override;
  int RuntimeVersion() const override { return options_.runtime_version; }
  CudaError DeviceCount(int& count) override;
  CudaError Facts(int ordinal, CudaDeviceFacts& facts) override;
  CudaError UseDevice(int ordinal) override;
  CudaError MemoryInfo(size_t& free_bytes, size_t& total_bytes) override;
  CudaError Allocate(size_t bytes, DeviceAddress& at) override;
  CudaError Free(DeviceAddress at) override;
  CudaError AllocatePinned(size_t bytes, void*& at) override;
  CudaError FreePinned(void* at) override;
  CudaError CreateStream(bool urgent, CudaStream& stream) override;
  CudaError DestroyStream(CudaStream stream) override;
  CudaError Synchronize(CudaStream stream) override;
  CudaError CreateEvent(CudaEvent& event) override;
  CudaError DestroyEvent(CudaEvent event) override;
  CudaError Record(CudaEvent event, CudaStream stream) override;
  CudaError WaitFor(CudaStream stream, CudaEvent event) override;
  CudaError Synchronize(CudaEvent event) override;
  CudaError CopyToDevice(DeviceAddress to, const void* pinned, size_t bytes,
                         CudaStream stream) override;
  CudaError CopyToHost(void* pinned, DeviceAddress from, size_t bytes, CudaStream stream) override;
  CudaError BeginCapture(CudaStream stream) override;
  CudaError EndCapture(CudaStream stream, CudaGraph& graph) override;
  CudaError LaunchGraph(CudaGraph graph, CudaStream stream) override;
  CudaError DestroyGraph(CudaGraph graph) override;
  std::string TextOf(CudaError error) const override;

  // A kernel: `body` runs in the stream's turn. Only there may it follow what Host gives.
  CudaError Launch(CudaStream stream, std::function<void()> body);
  // Where the bytes at a device address lie; a violation, and null, outside of allocations.
  uint8_t* Host(DeviceAddress at, size_t bytes) ABSL_NO_THREAD_SAFETY_ANALYSIS;
  // The same without a look at what is allocated, for addresses that kernels are given.
  std::byte* SeenByKernels(DeviceAddress at) const {
    return reinterpret_cast<std::byte*>(Shadow(at));
  }

  // From now on, the n-th operation of a stream loses the device.
  void LoseAfter(uint64_t operations, CudaError error);
  std::vector<std::string> violations() const;
  uint64_t operations() const;  // run so far
  size_t queued() const;         // operations that have not run
  int graphs() const;            // captured and not destroyed
  int graph_launches() const;
  size_t allocated_bytes() const;
  size_t pinned_bytes() const;

 private:
  struct Stream;
  struct Event;
  struct Graph;
  struct Operation {
    std::function<void()> enqueued;  // run at once, at each launch where a graph has it
    std::function<void()> body;
    Event* record = nullptr;
    uint64_t record_number = 0;
    Event* wait = nullptr;
    uint64_t wait_number = 0;
  };

  CudaError Enter() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CudaError Bad(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CudaError Enqueue(CudaStream stream, Operation operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RunOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunByChance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsDevice(DeviceAddress at, size_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsPinned(const void* at, size_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t* Shadow(DeviceAddress at) const { return shadow_ + (at.value - begin_); }

  const FakeCudaOptions options_;
  uint64_t begin_ = 0;          // of the range that the host must not touch
  uint8_t* shadow_ = nullptr;  // the same bytes

  mutable absl::Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, size_t> allocations_ ABSL_GUARDED_BY(mutex_);
  std::map<const uint8_t*, size_t> pinned_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Event>> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Graph>> graphs_ ABSL_GUARDED_BY(mutex_);
  int graph_launches_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<std::thread::id> threads_ ABSL_GUARDED_BY(mutex_);  // that use the device
  std::vector<std::string> violations_ ABSL_GUARDED_BY(mutex_);
  uint64_t operations_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t lose_at_ ABSL_GUARDED_BY(mutex_) = 0;
  CudaError lose_with_ ABSL_GUARDED_BY(mutex_);
  CudaError lost_ ABSL_GUARDED_BY(mutex_) = CudaError::kSuccess;
};

}  // namespace sheaf::testing
