#include "worker/session/coordinator_messages.h"

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "exchange/wire/holdings.h"

namespace sheaf {
namespace {

constexpr int64_t kMaxLeaseMs = 3'600'000;
constexpr int kMaxWorkerId = 1 << 20;
constexpr size_t kMaxNameBytes = 255;

bool IsInModel(const ModelIdentity& model, int layer, int begin, int end) {
  return layer >= model.first_moe_layer && layer < model.num_layers && begin >= 0 && begin < end &&
         end <= model.num_experts;
}

}  // namespace

absl::StatusOr<Welcome> WelcomeOf(const v1::WorkerWelcome& message) {
  if (message.worker_id() < 0 || message.worker_id() > kMaxWorkerId) {
    return absl::InvalidArgumentError(absl::StrFormat("welcome: worker id: wanted 0..%d, got %d",
                                                      kMaxWorkerId, message.worker_id()));
  }
  if (message.lease_ms() < 1 || message.lease_ms() > kMaxLeaseMs) {
    return absl::InvalidArgumentError(absl::StrFormat("welcome: lease: wanted 1..%d ms, got %d",
                                                      kMaxLeaseMs, message.lease_ms()));
  }
  return Welcome{WorkerId(message.worker_id()), std::chrono::milliseconds(message.lease_ms())};
}

absl::StatusOr<HoldRequest> HoldRequestOf(const v1::Hold& message, const ModelIdentity& model) {
  if (message.urgent_entries() < 0 || message.urgent_entries() > message.experts_size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("hold %d: urgent entries: wanted 0..%d, got %d", message.number(),
                        message.experts_size(), message.urgent_entries()));
  }
  HoldRequest request;
  request.number = message.number();
  request.max_bytes_per_second = message.max_bytes_per_second();
  Holdings listed(model.num_layers, model.num_experts);
  for (int entry = 0; entry < message.experts_size(); ++entry) {
    const v1::ExpertRange& range = message.experts(entry);
    if (!IsInModel(model, range.layer(), range.begin(), range.end())) {
      return absl::InvalidArgumentError(
          absl::StrFormat("hold %d: layer %d experts %d..%d are not in the model", message.number(),
                          range.layer(), range.begin(), range.end()));
    }
    const LayerId layer(range.layer());
    for (int expert = range.begin(); expert < range.end(); ++expert) {
      if (listed.Has(layer, ExpertId(expert))) continue;
      listed.Add(layer, ExpertId(expert));
      request.experts.push_back({layer, ExpertId(expert)});
    }
    if (entry < message.urgent_entries()) request.num_urgent = request.experts.size();
  }
  return request;
}

absl::StatusOr<LayerExpert> ReloadOf(const v1::ReloadExpert& message, const ModelIdentity& model) {
  if (!IsInModel(model, message.layer(), message.expert(),
                 message.expert() < model.num_experts ? message.expert() + 1 : 0)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "reload: layer %d expert %d is not in the model", message.layer(), message.expert()));
  }
  return LayerExpert{LayerId(message.layer()), ExpertId(message.expert())};
}

v1::ModelIdentity MessageOf(const ModelIdentity& model) {
  v1::ModelIdentity message;
  message.set_digest(model.digest);
  message.set_num_layers(model.num_layers);
  message.set_first_moe_layer(model.first_moe_layer);
  message.set_num_experts(model.num_experts);
  message.set_hidden_size(model.hidden_size);
  message.set_name(OneLine(model.name).substr(0, kMaxNameBytes));
  return message;
}

}  // namespace sheaf
