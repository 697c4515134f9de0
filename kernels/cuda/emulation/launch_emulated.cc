#include "kernels/cuda/emulation/launch_emulated.h"

#include <cstdio>
#include <string>
#include <utility>

namespace sheaf::kernels::cuda::emulation {
namespace {

constexpr int kLaunchFailure = 719;

Launcher& TheLauncher() {
  static Launcher launcher;
  return launcher;
}

LaunchObserver& Observer() {
  static LaunchObserver observer;
  return observer;
}

}  // namespace

void SetLaunchObserver(LaunchObserver observer) { Observer() = std::move(observer); }
const LaunchObserver& TheLaunchObserver() { return Observer(); }

void SetLauncher(Launcher launcher) { TheLauncher() = std::move(launcher); }

int LaunchOnStream(const LaunchShape& shape, void* stream, std::function<void()> kernel) {
  if (const Launcher& launcher = TheLauncher()) return launcher(shape, stream, std::move(kernel));
  const absl::Status status = Run({}, shape, kernel);
  if (status.ok()) return 0;
  std::fprintf(stderr, "emulated kernel: %s\n", std::string(status.message()).c_str());
  return kLaunchFailure;
}

}  // namespace sheaf::kernels::cuda::emulation
