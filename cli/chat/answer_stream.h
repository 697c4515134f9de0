#pragma once
// StreamAnswer: one Generate call, printed while it comes.
//
// Threads  The caller's; blocks until the answer has ended or the deadline has passed. An interrupt
//          cancels the call.

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "cli/chat/answer.h"
#include "cli/chat/answer_printer.h"
#include "cli/chat/interrupts.h"
#include "sheaf/v1/inference.grpc.pb.h"

namespace sheaf {

struct StreamedAnswer {
  grpc::Status status;  // CANCELLED when interrupted
  bool interrupted = false;
  Answer answer;  // what came of it
  v1::Usage usage;
  std::chrono::duration<double> first{};  // until the first token
  std::chrono::duration<double> total{};
};

// `interrupts`: null = none are waited for.
StreamedAnswer StreamAnswer(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                            std::chrono::milliseconds timeout, AnswerPrinter& printer,
                            Interrupts* interrupts);

}  // namespace sheaf
