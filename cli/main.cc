// The `sheaf` program: parses the command line and runs one command.

#include <cstdio>
#include <exception>
#include <variant>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "cli/commands/commands.h"
#include "cli/options/options.h"
#include "cli/process/process_setup.h"
#include "worker/device/cuda_platform.h"

namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

int Run(int argc, char** argv) {
  // Some systems' Abseil looks for deadlocks at every lock, which costs more than the lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const auto command = sheaf::ParseCommandLine(argc, argv);
  if (!command.ok()) {
    std::fprintf(stderr, "sheaf: %s\n", std::string(command.status().message()).c_str());
    return 1;
  }
  return std::visit(
      Overloaded{
          [](const sheaf::ServeCommand& c) { return sheaf::RunServe(c.options, "/proc/self/exe"); },
          [](const sheaf::RouterCommand& c) { return sheaf::RunRouter(c.options); },
          [](const sheaf::WorkerCommand& c) {
            return sheaf::RunWorker(c.options, sheaf::FindCuda);
          },
          [](const sheaf::AttentionCommand& c) { return sheaf::RunAttention(c.options); },
          [](const sheaf::InspectCommand& c) { return sheaf::RunInspect(c.options); },
          [](const sheaf::DevicesCommand& c) {
            return sheaf::RunDevices(c.options, sheaf::FindCuda);
          },
          [](const sheaf::VerifyCommand& c) { return sheaf::RunVerify(c.options); },
          [](const sheaf::RepackCommand& c) { return sheaf::RunRepack(c.options); },
          [](const sheaf::AskCommand& c) { return sheaf::RunAsk(c.options); },
          [](const sheaf::ChatCommand& c) { return sheaf::RunChat(c.options); },
          [](const sheaf::CoordinatorCommand& c) { return sheaf::RunCoordinator(c.options); },
          [](const sheaf::PoolCommand& c) { return sheaf::RunPool(c.options); },
          [](const sheaf::TopCommand& c) { return sheaf::RunTop(c.options); },
          [](const sheaf::HelpText& help) {
            std::fputs(help.text.c_str(), stdout);
            return 0;
          },
      },
      *command);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {  // a thread that cannot start, memory
    return sheaf::Fail(absl::ResourceExhaustedError(error.what()));
  }
}
