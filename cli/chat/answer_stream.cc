#include "cli/chat/answer_stream.h"

#include <atomic>
#include <memory>
#include <optional>

namespace sheaf {

StreamedAnswer StreamAnswer(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                            std::chrono::milliseconds timeout, AnswerPrinter& printer,
                            Interrupts* interrupts) {
  using Clock = std::chrono::steady_clock;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  StreamedAnswer streamed;
  std::atomic<bool> interrupted = false;
  const auto start = Clock::now();
  bool begun = false;
  {
    std::optional<Interrupts::Watch> watch;
    if (interrupts != nullptr) {
      watch.emplace(*interrupts, [&] {
        interrupted = true;
        context.TryCancel();
      });
    }
    auto reader = stub.Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_delta()) {
        if (!begun) streamed.first = Clock::now() - start;
        begun = true;
        streamed.answer.Add(response.delta());
        printer.Print(response.delta());
      } else if (response.has_finished()) {
        streamed.usage = response.finished().usage();
        streamed.answer.AddText(response.finished().text());
        printer.PrintText(response.finished().text());
      }
    }
    streamed.status = reader->Finish();
  }
  streamed.total = Clock::now() - start;
  // An interrupt that came after the end has nothing to end.
  streamed.interrupted = interrupted && !streamed.status.ok();
  printer.Finish();
  return streamed;
}

}  // namespace sheaf
