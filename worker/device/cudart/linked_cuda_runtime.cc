#include "worker/device/cudart/linked_cuda_runtime.h"

#include <cuda_runtime_api.h>

namespace sheaf {
namespace {

static_assert(static_cast<int>(CudaError::kSuccess) == cudaSuccess);
static_assert(static_cast<int>(CudaError::kInvalidValue) == cudaErrorInvalidValue);
static_assert(static_cast<int>(CudaError::kMemoryAllocation) == cudaErrorMemoryAllocation);
static_assert(static_cast<int>(CudaError::kInsufficientDriver) == cudaErrorInsufficientDriver);
static_assert(static_cast<int>(CudaError::kNoDevice) == cudaErrorNoDevice);
static_assert(static_cast<int>(CudaError::kInvalidDevice) == cudaErrorInvalidDevice);
static_assert(static_cast<int>(CudaError::kNoKernelImage) == cudaErrorNoKernelImageForDevice);
static_assert(static_cast<int>(CudaError::kEccUncorrectable) == cudaErrorECCUncorrectable);
static_assert(static_cast<int>(CudaError::kLaunchFailure) == cudaErrorLaunchFailure);
static_assert(static_cast<int>(CudaError::kUnknown) == cudaErrorUnknown);

CudaError Of(cudaError_t error) {
  // What it returned is known; left behind it would be found by the next call that asks.
  if (error != cudaSuccess) cudaGetLastError();
  return static_cast<CudaError>(error);
}
void* Pointer(DeviceAddress at) { return reinterpret_cast<void*>(at.value); }
cudaStream_t Of(CudaStream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t Of(CudaEvent event) { return reinterpret_cast<cudaEvent_t>(event); }

class LinkedCudaRuntime final : public CudaRuntime {
 public:
  CudaError DriverVersion(int& version) override { return Of(cudaDriverGetVersion(&version)); }
  int RuntimeVersion() const override { return CUDART_VERSION; }
  CudaError DeviceCount(int& count) override { return Of(cudaGetDeviceCount(&count)); }
  CudaError Facts(int ordinal, CudaDeviceFacts& facts) override {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
    if (error != cudaSuccess) return Of(error);
    facts.name = properties.name;
    facts.architecture = {properties.major, properties.minor};
    return CudaError::kSuccess;
  }
  CudaError UseDevice(int ordinal) override { return Of(cudaSetDevice(ordinal)); }

  CudaError MemoryInfo(size_t& free_bytes, size_t& total_bytes) override {
    return Of(cudaMemGetInfo(&free_bytes, &total_bytes));
  }
  CudaError Allocate(size_t bytes, DeviceAddress& at) override {
    void* pointer = nullptr;
    const cudaError_t error = cudaMalloc(&pointer, bytes);
    at = {reinterpret_cast<uint64_t>(pointer)};
    return Of(error);
  }
  CudaError Free(DeviceAddress at) override { return Of(cudaFree(Pointer(at))); }
  CudaError AllocatePinned(size_t bytes, void*& at) override {
    return Of(cudaHostAlloc(&at, bytes, cudaHostAllocDefault));
  }
  CudaError FreePinned(void* at) override { return Of(cudaFreeHost(at)); }

  CudaError CreateStream(bool urgent, CudaStream& stream) override {
    int least = 0, greatest = 0;  // the greatest priority is the lowest number
    const cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (error != cudaSuccess) return Of(error);
    cudaStream_t made = nullptr;
    const cudaError_t created =
        cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, urgent ? greatest : least);
    stream = reinterpret_cast<CudaStream>(made);
    return Of(created);
  }
  CudaError DestroyStream(CudaStream stream) override { return Of(cudaStreamDestroy(Of(stream))); }
  CudaError Synchronize(CudaStream stream) override {
    return Of(cudaStreamSynchronize(Of(stream)));
  }
  CudaError CreateEvent(CudaEvent& event) override {
    cudaEvent_t made = nullptr;
    const cudaError_t error = cudaEventCreateWithFlags(&made, cudaEventDisableTiming);
    event = reinterpret_cast<CudaEvent>(made);
    return Of(error);
  }
  CudaError DestroyEvent(CudaEvent event) override { return Of(cudaEventDestroy(Of(event))); }
  CudaError Record(CudaEvent event, CudaStream stream) override {
    return Of(cudaEventRecord(Of(event), Of(stream)));
  }
  CudaError WaitFor(CudaStream stream, CudaEvent event) override {
    return Of(cudaStreamWaitEvent(Of(stream), Of(event), 0));
  }
  CudaError Synchronize(CudaEvent event) override { return Of(cudaEventSynchronize(Of(event))); }

  CudaError CopyToDevice(DeviceAddress to, const void* pinned, size_t bytes,
                         CudaStream stream) override {
    return Of(cudaMemcpyAsync(Pointer(to), pinned, bytes, cudaMemcpyHostToDevice, Of(stream)));
  }
  CudaError CopyToHost(void* pinned, DeviceAddress from, size_t bytes, CudaStream stream) override {
    return Of(cudaMemcpyAsync(pinned, Pointer(from), bytes, cudaMemcpyDeviceToHost, Of(stream)));
  }

  CudaError BeginCapture(CudaStream stream) override {
    // Other threads load experts meanwhile.
    return Of(cudaStreamBeginCapture(Of(stream), cudaStreamCaptureModeThreadLocal));
  }
  CudaError EndCapture(CudaStream stream, CudaGraph& graph) override {
    cudaGraph_t captured = nullptr;
    cudaError_t error = cudaStreamEndCapture(Of(stream), &captured);
    if (error != cudaSuccess) return Of(error);
    cudaGraphExec_t ready = nullptr;
    error = cudaGraphInstantiate(&ready, captured, 0);
    cudaGraphDestroy(captured);
    graph = reinterpret_cast<CudaGraph>(ready);
    return Of(error);
  }
  CudaError LaunchGraph(CudaGraph graph, CudaStream stream) override {
    return Of(cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), Of(stream)));
  }
  CudaError DestroyGraph(CudaGraph graph) override {
    return Of(cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph)));
  }

  std::string TextOf(CudaError error) const override {
    return cudaGetErrorString(static_cast<cudaError_t>(error));
  }
};

}  // namespace

std::unique_ptr<CudaRuntime> MakeLinkedCudaRuntime() {
  return std::make_unique<LinkedCudaRuntime>();
}

}  // namespace sheaf
