#include "router/ui/expert_map.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/escaping.h"
#include "router/api/request/json/json_fields.h"

namespace sheaf {
namespace {

std::string Bits(const std::vector<bool>& bits) {
  std::string bytes((bits.size() + 7) / 8, '\0');
  for (size_t i = 0; i < bits.size(); ++i) {
    if (bits[i]) bytes[i / 8] = static_cast<char>(bytes[i / 8] | (1 << (i % 8)));
  }
  return absl::Base64Escape(bytes);
}

}  // namespace

std::string ExpertMap::ToJson() const {
  Json workers = Json::array();
  for (const Holder& holder : holders) {
    workers.push_back({{"id", holder.worker}, {"held", Bits(holder.held)}});
  }
  const double peak = load.empty() ? 0 : *std::max_element(load.begin(), load.end());
  const double sum = std::accumulate(load.begin(), load.end(), 0.0);
  std::string levels;
  if (peak > 0) {
    for (const double value : load) {
      // Whatever was asked for at all is told apart from what was not.
      const double level = value > 0 ? std::max(1.0, std::round(255 * value / peak)) : 0;
      levels.push_back(static_cast<char>(static_cast<uint8_t>(level)));
    }
  }
  return JsonText({{"version", version},
                   {"first_layer", first_layer},
                   {"layers", layers},
                   {"experts", experts},
                   {"workers", std::move(workers)},
                   {"load", absl::Base64Escape(levels)},
                   {"load_peak_over_mean",
                    sum > 0 ? peak * static_cast<double>(load.size()) / sum : 0.0}});
}

}  // namespace sheaf
