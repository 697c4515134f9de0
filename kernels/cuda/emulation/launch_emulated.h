#pragma once
// kernels/cuda/launch.h in the emulator. A launch goes to the process's launcher: by default it runs at once; a test or a fake runtime
// with streams of its own sets another.
//
// Ownership  the launcher keeps `kernel` as long as it needs; the arguments are copies in it.
// Threads    SetLauncher before the first launch or between launches; launches from any thread.
// Errors     the default launcher answers 719 (cudaErrorLaunchFailure) and says on stderr what was found.

#include <functional>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/launch_shape.h"

namespace sheaf::kernels::cuda {
namespace emulation {

using Launcher =
    std::function<int(const LaunchShape& shape, void* stream, std::function<void()> kernel)>;
void SetLauncher(Launcher launcher);  // null: the default
int LaunchOnStream(const LaunchShape& shape, void* stream, std::function<void()> kernel);

}  // namespace emulation

template <typename... Parameters, typename... Arguments>
int LaunchKernel(void (*kernel)(Parameters...), const LaunchShape& shape, void* stream,
                 Arguments... arguments) {
  return emulation::LaunchOnStream(shape, stream,
                                   [=] { kernel(static_cast<Parameters>(arguments)...); });
}

template <typename... Parameters>
int AllowSharedMemory(void (*)(Parameters...), size_t) {
  return 0;
}

}  // namespace sheaf::kernels::cuda
