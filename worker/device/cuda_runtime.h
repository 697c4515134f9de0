#pragma once
// CudaRuntime: the calls of the CUDA runtime that Sheaf makes, and no others, so that something
// else can stand in for a GPU (tests/cuda/fake_cuda_runtime.h). A build with CUDA has one over the
// linked libcudart; a build without has none.
//
// Calls      mean what the runtime's own mean; each returns its error. Copies are asynchronous: the
//            host's side is pinned memory, which nobody else touches until the stream has come past
//            the copy.
// Units      bytes. DeviceAddress is an address of the device: the host never follows it.
// Threads    any; UseDevice is of the calling thread, and comes before whatever else that thread
//            calls.
// Errors     as codes (values of cudaError_t, which never change); cuda_device.h makes statuses of
//            them.

#include <cstddef>
#include <cstdint>
#include <string>

namespace sheaf {

// Those that mean something to us; others arrive as their number.
enum class CudaError : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kMemoryAllocation = 2,
  kInsufficientDriver = 35,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kNoKernelImage = 209,
  kEccUncorrectable = 214,
  kLaunchFailure = 719,
  kUnknown = 999,
};

struct DeviceAddress {
  uint64_t value = 0;
  friend DeviceAddress operator+(DeviceAddress at, size_t bytes) { return {at.value + bytes}; }
  friend bool operator==(DeviceAddress, DeviceAddress) = default;
};

struct CudaArchitecture {
  int major = 0;
  int minor = 0;
  friend bool operator==(const CudaArchitecture&, const CudaArchitecture&) = default;
};

struct CudaDeviceFacts {
  std::string name;  // "NVIDIA H200"
  CudaArchitecture architecture;
};

using CudaStream = struct CudaStreamOpaque*;
using CudaEvent = struct CudaEventOpaque*;
using CudaGraph = struct CudaGraphOpaque*;

class CudaRuntime {
 public:
  virtual ~CudaRuntime() = default;

  // 1000 * major + 10 * minor of the newest CUDA that the driver knows; 0: there is no driver.
  virtual CudaError DriverVersion(int& version) = 0;
  // Of the runtime that this was built with, in the same form.
  virtual int RuntimeVersion() const = 0;
  virtual CudaError DeviceCount(int& count) = 0;
  virtual CudaError Facts(int ordinal, CudaDeviceFacts& facts) = 0;
  virtual CudaError UseDevice(int ordinal) = 0;

  virtual CudaError MemoryInfo(size_t& free_bytes, size_t& total_bytes) = 0;
  // 256-byte aligned.
  virtual CudaError Allocate(size_t bytes, DeviceAddress& at) = 0;
  virtual CudaError Free(DeviceAddress at) = 0;
  virtual CudaError AllocatePinned(size_t bytes, void*& at) = 0;
  virtual CudaError FreePinned(void* at) = 0;

  // Work of an urgent stream goes first where both wait.
  virtual CudaError CreateStream(bool urgent, CudaStream& stream) = 0;
  virtual CudaError DestroyStream(CudaStream stream) = 0;
  virtual CudaError Synchronize(CudaStream stream) = 0;
  virtual CudaError CreateEvent(CudaEvent& event) = 0;
  virtual CudaError DestroyEvent(CudaEvent event) = 0;
  virtual CudaError Record(CudaEvent event, CudaStream stream) = 0;
  // What comes later in the stream waits for the event as it was recorded last.
  virtual CudaError WaitFor(CudaStream stream, CudaEvent event) = 0;
  virtual CudaError Synchronize(CudaEvent event) = 0;

  virtual CudaError CopyToDevice(DeviceAddress to, const void* pinned, size_t bytes,
                                 CudaStream stream) = 0;
  virtual CudaError CopyToHost(void* pinned, DeviceAddress from, size_t bytes,
                               CudaStream stream) = 0;

  // From Begin to End nothing that this thread enqueues in the stream runs: it becomes a graph,
  // whose copies and kernels have the addresses and sizes that they were given, and which is
  // launched as often as one likes. Copies and kernels alone.
  virtual CudaError BeginCapture(CudaStream stream) = 0;
  virtual CudaError EndCapture(CudaStream stream, CudaGraph& graph) = 0;
  virtual CudaError LaunchGraph(CudaGraph graph, CudaStream stream) = 0;
  // Once it runs no more.
  virtual CudaError DestroyGraph(CudaGraph graph) = 0;

  // In words, "uncorrectable ECC error encountered".
  virtual std::string TextOf(CudaError error) const = 0;
};

}  // namespace sheaf
