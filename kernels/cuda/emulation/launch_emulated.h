#pragma once
// kernels/cuda/launch.h in the emulator. A launch goes to the process's launcher: by default it
// runs at once; a test or a fake runtime with streams of its own sets another.
//
// Ownership  the launcher keeps `kernel` as long as it needs; the arguments are copies in it.
// Threads    SetLauncher, SetLaunchObserver before the first launch or between launches; launches
//            from any thread.
// Errors     the default launcher answers 719 (cudaErrorLaunchFailure) and says on stderr what was
//            found.

#include <cstddef>
#include <functional>
#include <span>
#include <tuple>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/launch_shape.h"

namespace sheaf::kernels::cuda {
namespace emulation {

using Launcher =
    std::function<int(const LaunchShape& shape, void* stream, std::function<void()> kernel)>;
void SetLauncher(Launcher launcher);  // null: the default
int LaunchOnStream(const LaunchShape& shape, void* stream, std::function<void()> kernel);

// Is shown the kernel and the bytes of its arguments before the launcher is. Null: nobody.
using LaunchObserver = std::function<void(const void* kernel, const LaunchShape& shape,
                                          std::span<const std::span<const std::byte>> arguments)>;
void SetLaunchObserver(LaunchObserver observer);
const LaunchObserver& TheLaunchObserver();

}  // namespace emulation

template <typename... Parameters, typename... Arguments>
int LaunchKernel(void (*kernel)(Parameters...), const LaunchShape& shape, void* stream,
                 Arguments... arguments) {
  if (const emulation::LaunchObserver& observer = emulation::TheLaunchObserver()) {
    const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
    std::apply(
        [&](const auto&... value) {
          const std::span<const std::byte> bytes[] = {std::as_bytes(std::span(&value, 1))...};
          observer(reinterpret_cast<const void*>(kernel), shape, bytes);
        },
        values);
  }
  return emulation::LaunchOnStream(shape, stream,
                                   [=] { kernel(static_cast<Parameters>(arguments)...); });
}

template <typename... Parameters>
int AllowSharedMemory(void (*)(Parameters...), size_t) {
  return 0;
}

// A small device: what fits it fits the others.
inline int ReadDeviceSizes(DeviceSizes& sizes) {
  sizes = {.processors = 4, .block_shared_bytes = 99 * 1024, .processor_shared_bytes = 100 * 1024};
  return 0;
}

}  // namespace sheaf::kernels::cuda
