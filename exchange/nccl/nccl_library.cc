#include "exchange/nccl/nccl_library.h"

#include <dlfcn.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "base/status.h"

namespace sheaf {
namespace {

template <typename Function>
absl::Status Find(void* library, const std::string& file, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("%s: it is no NCCL: wanted the function %s", OneLine(file), name));
}

absl::StatusOr<NcclCalls> FindCalls(void* library, const std::string& file) {
  NcclCalls calls;
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclGetVersion", calls.get_version));
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclGetUniqueId", calls.get_unique_id));
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclGetErrorString", calls.get_error_string));
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclGetLastError", calls.get_last_error));
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclCommInitRankConfig", calls.comm_init_rank_config));
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclCommGetAsyncError", calls.comm_get_async_error));
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclCommAbort", calls.comm_abort));
  return calls;
}

// The first that each library has to answer; a stranger's library may lack it.
absl::StatusOr<NcclVersion> ReadVersion(void* library, const std::string& file) {
  NcclResult (*get_version)(int*) = nullptr;
  SHEAF_RETURN_IF_ERROR(Find(library, file, "ncclGetVersion", get_version));
  int code = 0;
  if (const NcclResult result = get_version(&code); result != NcclResult::kSuccess) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s: ncclGetVersion: result %d", OneLine(file), static_cast<int>(result)));
  }
  return NcclVersion::FromCode(code);
}

}  // namespace

NcclLibrary::NcclLibrary(const NcclCalls& calls, const NcclVersion& version,
                         std::vector<std::string> features)
    : calls_(calls), version_(version), features_(std::move(features)) {}

absl::StatusOr<std::unique_ptr<NcclLibrary>> NcclLibrary::Load(const std::string& file) {
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = dlerror();  // begins with the file's name
    return absl::NotFoundError(OneLine(why == nullptr ? file : why));
  }
  // An old one is told that it is old before it is told what it lacks.
  SHEAF_ASSIGN_OR_RETURN(const NcclVersion version, ReadVersion(library, file));
  if (version < kOldestNccl) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s: NCCL is too old: wanted %s or newer, got %s", OneLine(file),
                        kOldestNccl.Text(), version.Text()));
  }
  SHEAF_ASSIGN_OR_RETURN(const NcclCalls calls, FindCalls(library, file));
  std::vector<std::string> features;
  for (const NcclFeature& feature : kNcclFeatures) {
    const bool exported = feature.symbol == nullptr || dlsym(library, feature.symbol) != nullptr;
    if (version >= feature.since && exported) features.emplace_back(feature.name);
  }
  return std::unique_ptr<NcclLibrary>(new NcclLibrary(calls, version, std::move(features)));
}

absl::StatusOr<NcclUniqueId> NcclLibrary::NewUniqueId() const {
  NcclUniqueId id;
  SHEAF_RETURN_IF_ERROR(Check(calls_.get_unique_id(&id), "ncclGetUniqueId", nullptr));
  return id;
}

absl::Status NcclLibrary::Check(NcclResult result, const char* call,
                                NcclCommunicatorHandle communicator) const {
  if (result == NcclResult::kSuccess) return absl::OkStatus();
  const char* const told = calls_.get_last_error(communicator);
  const std::string last(absl::StripAsciiWhitespace(told == nullptr ? "" : told));
  std::string words = calls_.get_error_string(result);
  // The last error is the cause where there is one, the result no more than its kind.
  if (!last.empty()) words = absl::StrFormat("%s: %s", words, last);
  const std::string text =
      absl::StrFormat("NCCL: %s: %s (%d)", call, OneLine(words), static_cast<int>(result));
  switch (result) {
    case NcclResult::kInternalError:
    case NcclResult::kInvalidArgument:
    case NcclResult::kInvalidUsage:
      return absl::InternalError(text);
    default:
      return absl::UnavailableError(text);
  }
}

}  // namespace sheaf
