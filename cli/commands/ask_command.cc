// `sheaf ask`: one question over gRPC, the answer streamed to stdout, usage and speed to stderr.

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <iostream>

#include "cli/chat/answer_stream.h"
#include "cli/commands/commands.h"
#include "cli/options/client_tls.h"
#include "cli/process/process_setup.h"

namespace sheaf {

int RunAsk(const AskOptions& options) {
  const auto dialer = OpenDialer(options.tls);
  if (!dialer.ok()) return Fail(dialer.status());
  const auto stub = v1::Inference::NewStub(DialGrpc(options.grpc, *dialer));
  v1::GenerateRequest request;
  if (options.raw) {
    request.set_text(options.question);
  } else {
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(options.question);
    if (options.no_thinking) request.mutable_chat()->set_enable_thinking(false);
  }
  request.mutable_sampling()->set_temperature(static_cast<float>(options.temperature));
  request.mutable_stop()->set_max_tokens(options.max_tokens);

  AnswerPrinter printer(std::cout, StdoutStyle(options.show_thoughts));
  const StreamedAnswer streamed =
      StreamAnswer(*stub, request, std::chrono::milliseconds(options.timeout_ms), printer, nullptr);
  if (!streamed.status.ok()) {
    return Fail(ExplainUnreached(FromGrpc(streamed.status), options.grpc, *dialer));
  }
  const double decode_s = (streamed.total - streamed.first).count();
  const unsigned generated = streamed.usage.completion_tokens();
  std::fprintf(stderr, "(%u prompt tokens, first token after %.0f ms; %u tokens",
               streamed.usage.prompt_tokens(), 1e3 * streamed.first.count(), generated);
  if (generated > 1 && decode_s > 0)
    std::fprintf(stderr, ", %.1f tokens/s", (generated - 1) / decode_s);
  std::fprintf(stderr, ")\n");
  return 0;
}

}  // namespace sheaf
