#include "exchange/ucx/ucx_context.h"

#include <ucs/config/global_opts.h>
#include <ucs/debug/debug.h>

#include <csignal>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

// What each is for: docs/exchange_protocol.md. UCX 1.13 reads transport keys only from the
// environment.
void SetEnvironment(const UcxTransportOptions& options) {
  const std::string keepalive = absl::StrFormat("%dms", options.keepalive.count());
  const std::pair<const char*, const char*> settings[] = {
      {"UCX_TLS", "^shm"},
      {"UCX_KEEPALIVE_INTERVAL", keepalive.c_str()},
      {"UCX_RNDV_SCHEME", "get_zcopy"},
  };
  for (const auto& [name, value] : settings) setenv(name, value, /*overwrite=*/0);
}

// libucs read these before main.
void SetGlobalOptions() {
  static std::once_flag once;
  std::call_once(once, [] {
    ucs_global_opts_set_value("WARN_UNUSED_ENV_VARS", "n");
    ucs_global_opts_set_value("HANDLE_ERRORS", "none");
    // Destroying a worker after a peer's death warns of the requests that it ends; that is what it
    // is for.
    if (std::getenv("UCX_LOG_LEVEL") == nullptr) ucs_global_opts_set_value("LOG_LEVEL", "error");
    for (const int signal : {SIGILL, SIGSEGV, SIGBUS, SIGFPE}) ucs_debug_disable_signal(signal);
  });
}

}  // namespace

absl::Status UcxError(const char* what, ucs_status_t status) {
  return absl::InternalError(absl::StrCat(what, ": ", ucs_status_string(status)));
}

UcxTransport::Context::~Context() {
  if (ucp != nullptr) ucp_cleanup(ucp);
}

absl::StatusOr<std::unique_ptr<UcxTransport>> UcxTransport::Create(
    const UcxTransportOptions& options) {
  SetEnvironment(options);
  SetGlobalOptions();
  auto context = std::make_shared<Context>(options);

  ucp_config_t* config = nullptr;
  ucs_status_t status = ucp_config_read(nullptr, nullptr, &config);
  if (status != UCS_OK) return UcxError("ucp_config_read", status);
  ucp_params_t parameters{};
  parameters.field_mask = UCP_PARAM_FIELD_FEATURES;
  parameters.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  status = ucp_init(&parameters, config, &context->ucp);
  ucp_config_release(config);
  if (status != UCS_OK) return UcxError("ucp_init", status);

  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  context->rendezvous_is_safe = major > 1 || minor >= 22;
  return std::unique_ptr<UcxTransport>(new UcxTransport(std::move(context)));
}

UcxTransport::UcxTransport(std::shared_ptr<Context> context) : context_(std::move(context)) {}
UcxTransport::~UcxTransport() = default;

}  // namespace sheaf
