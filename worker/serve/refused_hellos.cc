#include "worker/serve/refused_hellos.h"

#include <spdlog/spdlog.h>

#include <optional>
#include <string>

#include "base/one_line.h"

namespace sheaf {

void RefusedHellos::Tell(const RefusedHello& refused, TimePoint now) {
  // Probes and routers that are behind do these all the time.
  const bool usual =
      refused.cause == HelloRefusal::kUnfinished || refused.cause == HelloRefusal::kInstance;
  if (usual && !spdlog::should_log(spdlog::level::debug)) return;
  const std::optional<std::string> rest = limits_[static_cast<size_t>(refused.cause)].Say(now);
  if (!rest.has_value()) return;
  spdlog::log(usual ? spdlog::level::debug : spdlog::level::warn,
              "no link with {} ({}): {}{}", OneLine(refused.peer), NameOf(refused.cause),
              OneLine(refused.why), *rest);
}

}  // namespace sheaf
