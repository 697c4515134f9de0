// `sheaf pool status|drain|undrain|replicas|rebalance`: an operator's word with a coordinator.

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/commands/pool_table.h"
#include "cli/options/client_tls.h"
#include "cli/process/process_identity.h"
#include "cli/process/process_setup.h"
#include "network/tls/grpc_credentials.h"
#include "sheaf/v1/pool.grpc.pb.h"

namespace sheaf {
namespace {

absl::StatusOr<std::string> Ask(const PoolCommandOptions& options) {
  SHEAF_ASSIGN_OR_RETURN(const std::string token, ReadToken(options.cluster_token_file));
  const SteadyClock clock;
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<TlsIdentity> tls,
                         OpenClusterTls(options.tls, std::make_shared<TlsReport>(nullptr, clock)));
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<TlsDialer> dialer, OpenDialer(options.dial));
  const auto stub = v1::Pool::NewStub(
      tls ? grpc::CreateChannel(options.coordinator, GrpcChannelCredentials(tls))
          : DialGrpc(options.coordinator, dialer));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(options.timeout_ms));
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  const auto check = [&](const grpc::Status& ended) {
    const absl::Status status = FromGrpc(ended);
    if (status.ok()) return status;
    if (dialer) return ExplainUnreached(status, options.coordinator, dialer);
    return ExplainUnreached(status, options.coordinator, tls != nullptr,
                            "--tls, --tls-ca or the --cluster-tls flags");
  };
  switch (options.action) {
    case PoolCommandOptions::Action::kStatus: {
      v1::PoolStatus status;
      SHEAF_RETURN_IF_ERROR(check(stub->GetStatus(&context, {}, &status)));
      if (!options.json) return PoolTable(status);
      google::protobuf::util::JsonPrintOptions print;
      print.add_whitespace = true;
      print.always_print_primitive_fields = true;
      print.preserve_proto_field_names = true;
      std::string json;
      if (!google::protobuf::util::MessageToJsonString(status, &json, print).ok()) {
        return absl::InternalError("the status cannot be written as JSON");
      }
      return json;
    }
    case PoolCommandOptions::Action::kDrain: {
      v1::DrainRequest request;
      request.set_worker_id(options.worker);
      v1::DrainResponse response;
      SHEAF_RETURN_IF_ERROR(check(stub->Drain(&context, request, &response)));
      return absl::StrFormat("worker %d is drained: its experts move to others\n", options.worker);
    }
    case PoolCommandOptions::Action::kUndrain: {
      v1::UndrainRequest request;
      request.set_worker_id(options.worker);
      v1::UndrainResponse response;
      SHEAF_RETURN_IF_ERROR(check(stub->Undrain(&context, request, &response)));
      return absl::StrFormat("worker %d takes experts again\n", options.worker);
    }
    case PoolCommandOptions::Action::kReplicas: {
      v1::SetReplicasRequest request;
      request.set_replicas(options.replicas);
      v1::SetReplicasResponse response;
      SHEAF_RETURN_IF_ERROR(check(stub->SetReplicas(&context, request, &response)));
      return absl::StrFormat("%g holders of an expert are wanted\n", options.replicas);
    }
    case PoolCommandOptions::Action::kRebalance: {
      v1::RebalanceResponse response;
      SHEAF_RETURN_IF_ERROR(check(stub->Rebalance(&context, {}, &response)));
      return absl::StrFormat("%d experts will be loaded somewhere\n", response.moves());
    }
  }
  return absl::InternalError("unknown action");
}

}  // namespace

int RunPool(const PoolCommandOptions& options) {
  const absl::StatusOr<std::string> answer = Ask(options);
  if (!answer.ok()) return Fail(answer.status());
  std::fputs(answer->c_str(), stdout);
  return 0;
}

}  // namespace sheaf
