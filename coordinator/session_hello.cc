#include "coordinator/session_hello.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "base/status.h"
#include "exchange/wire/holdings.h"

namespace sheaf {
namespace {

constexpr size_t kMaxNameBytes = 255;
constexpr int kMaxAddresses = 8;

// Names come into logs and tables: bounded, and one line.
absl::Status CheckName(const char* field, std::string_view text, size_t at_least = 0) {
  if (text.size() < at_least || text.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: wanted %d to %d bytes, got %d", field,
                                                      at_least, kMaxNameBytes, text.size()));
  }
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: a control character, in %s", field, OneLine(text)));
    }
  }
  return absl::OkStatus();
}

// What workers and routers have in common.
template <typename Hello>
absl::Status CheckCommon(const Hello& hello, const ModelIdentity& model, std::string_view token) {
  if (!SameToken(token, hello.token())) {
    return absl::UnauthenticatedError(hello.token().empty() ? "the pool wants a token"
                                                            : "the token is not the pool's");
  }
  if (hello.protocol_version() != kPoolProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "protocol version: wanted %d, got %d", kPoolProtocolVersion, hello.protocol_version()));
  }
  SHEAF_RETURN_IF_ERROR(CheckName("model.name", hello.model().name()));
  if (const ModelIdentity got = FromProto(hello.model()); !(got == model)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("model: wanted %s; got %s", Describe(model), Describe(got)));
  }
  if (hello.instance() == 0) return absl::InvalidArgumentError("instance: wanted not 0");
  if (hello.pid() < 0) return absl::InvalidArgumentError("pid: wanted at least 0");
  SHEAF_RETURN_IF_ERROR(CheckName("host", hello.host()));
  return CheckName("version", hello.version());
}

}  // namespace

bool SameToken(std::string_view wanted, std::string_view got) {
  // An empty token of ours accepts all: there is none.
  if (wanted.empty()) return true;
  unsigned different = wanted.size() == got.size() ? 0 : 1;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto other = static_cast<unsigned char>(i < got.size() ? got[i] : 0);
    different |= static_cast<unsigned char>(wanted[i]) ^ other;
  }
  return different == 0;
}

ModelIdentity FromProto(const v1::ModelIdentity& model) {
  ModelIdentity identity;
  identity.digest = model.digest();
  identity.num_layers = model.num_layers();
  identity.first_moe_layer = model.first_moe_layer();
  identity.num_experts = model.num_experts();
  identity.hidden_size = model.hidden_size();
  identity.name = model.name();
  return identity;
}

void ToProto(const ModelIdentity& model, v1::ModelIdentity& proto) {
  proto.set_digest(model.digest);
  proto.set_num_layers(model.num_layers);
  proto.set_first_moe_layer(model.first_moe_layer);
  proto.set_num_experts(model.num_experts);
  proto.set_hidden_size(model.hidden_size);
  proto.set_name(model.name);
}

std::string Describe(const ModelIdentity& model) {
  return absl::StrFormat("\"%s\" %016x, %d layers (experts from %d), %d experts, hidden %d",
                         model.name, model.digest, model.num_layers, model.first_moe_layer,
                         model.num_experts, model.hidden_size);
}

absl::StatusOr<AnnouncedSet> ReadHoldings(std::string_view bytes, const ExpertGrid& grid) {
  const std::span<const uint8_t> raw(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  SHEAF_ASSIGN_OR_RETURN(const Holdings holdings,
                         Holdings::Decode(raw, grid.num_layers, grid.num_experts));
  AnnouncedSet set{holdings.number, ExpertSet(grid.size())};
  for (const LayerExpert& one : holdings.List()) {
    if (!grid.Inside(one.layer.value(), one.expert.value())) {
      return absl::InvalidArgumentError(
          absl::StrFormat("holdings: layer %d has no routed experts", one.layer.value()));
    }
    set.experts.Add(grid.Index(one.layer.value(), one.expert.value()));
  }
  return set;
}

absl::StatusOr<WorkerFacts> CheckWorkerHello(const v1::WorkerHello& hello,
                                             const ModelIdentity& model, std::string_view token) {
  SHEAF_RETURN_IF_ERROR(CheckCommon(hello, model, token));
  SHEAF_RETURN_IF_ERROR(CheckName("metrics_address", hello.metrics_address()));
  if (hello.secret().size() != sizeof(LinkSecret)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("secret: wanted %d bytes, got %d", sizeof(LinkSecret),
                        hello.secret().size()));
  }
  if (hello.addresses_size() < 1 || hello.addresses_size() > kMaxAddresses) {
    return absl::InvalidArgumentError(absl::StrFormat("addresses: wanted 1 to %d, got %d",
                                                      kMaxAddresses, hello.addresses_size()));
  }
  for (const std::string& address : hello.addresses()) {
    SHEAF_RETURN_IF_ERROR(CheckName("addresses", address, 1));
  }
  if (hello.expert_bytes() < 1) {
    return absl::InvalidArgumentError("expert_bytes: wanted at least 1");
  }
  if (hello.preferred_id() < -1 || hello.preferred_id() >= kMaxWorkers) {
    return absl::InvalidArgumentError(absl::StrFormat("preferred_id: wanted -1 to %d, got %d",
                                                      kMaxWorkers - 1, hello.preferred_id()));
  }
  WorkerFacts facts;
  facts.held = ExpertSet(ExpertGrid::Of(model).size());
  if (!hello.holdings().empty()) {
    SHEAF_ASSIGN_OR_RETURN(AnnouncedSet set, ReadHoldings(hello.holdings(), ExpertGrid::Of(model)));
    facts.holdings_number = set.number;
    facts.held = std::move(set.experts);
  }
  facts.instance = InstanceId(hello.instance());
  std::copy(hello.secret().begin(), hello.secret().end(), facts.secret.begin());
  facts.addresses.assign(hello.addresses().begin(), hello.addresses().end());
  facts.pid = hello.pid();
  facts.host = hello.host();
  facts.metrics_address = hello.metrics_address();
  facts.version = hello.version();
  facts.memory_bytes = hello.memory_bytes();
  facts.expert_bytes = hello.expert_bytes();
  facts.preferred_id = hello.preferred_id();
  facts.spare = hello.spare();
  return facts;
}

absl::StatusOr<RouterFacts> CheckRouterHello(const v1::RouterHello& hello,
                                             const ModelIdentity& model, std::string_view token) {
  SHEAF_RETURN_IF_ERROR(CheckCommon(hello, model, token));
  return RouterFacts{InstanceId(hello.instance()), hello.host(), hello.pid(), hello.version()};
}

}  // namespace sheaf
