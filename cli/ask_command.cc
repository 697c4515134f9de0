// `sheaf ask`: one question over gRPC, the answer streamed to stdout, usage and speed to stderr.

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>

#include "cli/commands.h"
#include "sheaf/v1/inference.grpc.pb.h"

namespace sheaf {

int RunAsk(const AskOptions& options) {
  using Clock = std::chrono::steady_clock;
  auto channel = grpc::CreateChannel(options.grpc, grpc::InsecureChannelCredentials());
  auto stub = v1::Inference::NewStub(channel);
  v1::GenerateRequest request;
  if (options.raw) {
    request.set_text(options.question);
  } else {
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(options.question);
  }
  request.mutable_sampling()->set_temperature(static_cast<float>(options.temperature));
  request.mutable_stop()->set_max_tokens(options.max_tokens);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(options.timeout_ms));

  const auto start = Clock::now();
  Clock::time_point first{};
  auto reader = stub->Generate(&context, request);
  v1::GenerateResponse response;
  v1::Finished finished;
  while (reader->Read(&response)) {
    if (response.has_delta()) {
      if (first == Clock::time_point{}) first = Clock::now();
      std::fputs(response.delta().text().c_str(), stdout);
      std::fflush(stdout);
    } else if (response.has_finished()) {
      finished = response.finished();
      std::fputs(finished.text().c_str(), stdout);
    }
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);  // where both streams are one, the figures come on a line of their own
  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "sheaf: %s: %s\n", options.grpc.c_str(), status.error_message().c_str());
    return 1;
  }
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  const double decode_s = seconds(Clock::now() - first);
  const unsigned generated = finished.usage().completion_tokens();
  std::fprintf(stderr, "(%u prompt tokens, first token after %.0f ms; %u tokens",
               finished.usage().prompt_tokens(), 1e3 * seconds(first - start), generated);
  if (generated > 1 && decode_s > 0)
    std::fprintf(stderr, ", %.1f tokens/s", (generated - 1) / decode_s);
  std::fprintf(stderr, ")\n");
  return 0;
}

}  // namespace sheaf
