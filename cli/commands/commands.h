#pragma once
// One function a command, each returning the process's exit status: 0, or 1 after one line on
// stderr that starts with "sheaf: " and names what was wrong.
//
// Threads: main's thread. They install signal handling themselves where they serve.

#include "cli/options/options.h"
#include "worker/device/cuda_platform.h"

namespace sheaf {

int RunServe(const RouterOptions& options, const char* program);
int RunRouter(const RouterOptions& options);
int RunWorker(const WorkerOptions& options, CudaFinder find_cuda);
int RunAttention(const AttentionOptions& options);
int RunInspect(const InspectOptions& options);
int RunDevices(const DevicesOptions& options, CudaFinder find_cuda);
int RunVerify(const VerifyOptions& options);
int RunRepack(const RepackOptions& options);
int RunAsk(const AskOptions& options);
int RunChat(const ChatOptions& options);
int RunCoordinator(const CoordinatorCommandOptions& options);
int RunPool(const PoolCommandOptions& options);
int RunTop(const TopOptions& options);

}  // namespace sheaf
