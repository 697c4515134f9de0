// `sheaf chat`: a conversation over gRPC. Answers go to stdout; the prompt, hints and errors to
// stderr, so that a pipe carries answers alone.

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/one_line.h"
#include "cli/chat/answer_stream.h"
#include "cli/chat/chat_line.h"
#include "cli/chat/conversation.h"
#include "cli/chat/interrupts.h"
#include "cli/chat/line_reader.h"
#include "cli/commands/commands.h"
#include "cli/options/client_tls.h"
#include "cli/process/process_setup.h"

namespace sheaf {
namespace {

constexpr char kHelp[] =
    "  /reset         forget what was said; the system message stays\n"
    "  /system TEXT   set the system message; without TEXT: have none\n"
    "  /quit          end, as Ctrl-D does\n"
    "  //TEXT         say a text that begins with /\n"
    "  A line that ends with \\ goes on in the next. Ctrl-C ends an answer.\n";

class Chat {
 public:
  // A null dialer: plaintext.
  Chat(const ChatOptions& options, std::shared_ptr<TlsDialer> dialer, Interrupts* interrupts)
      : options_(options),
        dialer_(std::move(dialer)),
        interrupts_(interrupts),
        stub_(v1::Inference::NewStub(DialGrpc(options.grpc, dialer_))),
        lines_(STDIN_FILENO, interrupts) {
    conversation_.SetSystem(options.system);
  }

  int Run();

 private:
  bool on_terminal() const { return interrupts_ != nullptr; }
  void Hint(const std::string& text) const;  // to a person
  // What the user says next, of one line or several; kInterrupt forgets the lines so far.
  absl::StatusOr<LineReader::Event> ReadTurn(std::string& turn);
  // False: the conversation ends.
  bool Obey(const ChatLine& line);
  void Say(const std::string& text);

  const ChatOptions& options_;
  const std::shared_ptr<TlsDialer> dialer_;
  Interrupts* const interrupts_;  // not owned; null: no terminal
  std::unique_ptr<v1::Inference::Stub> stub_;
  LineReader lines_;
  Conversation conversation_;
  bool interrupted_ = false;  // by the last thing the user did
  bool failed_ = false;
};

void Chat::Hint(const std::string& text) const {
  if (on_terminal()) std::fputs(text.c_str(), stderr);
}

absl::StatusOr<LineReader::Event> Chat::ReadTurn(std::string& turn) {
  turn.clear();
  Hint("> ");
  std::string line;
  while (true) {
    auto event = lines_.Next(line);
    if (event.ok() && *event == LineReader::Event::kEnd && !turn.empty()) {
      return LineReader::Event::kLine;
    }
    if (!event.ok() || *event != LineReader::Event::kLine) return event;
    const auto continued = ContinuedLine(line);
    turn += continued.value_or(line);
    if (!continued) return event;
    turn += '\n';
    Hint(". ");
  }
}

void Chat::Say(const std::string& text) {
  v1::GenerateRequest request;
  *request.mutable_chat() = conversation_.Next(text);
  if (options_.no_thinking) request.mutable_chat()->set_enable_thinking(false);
  if (options_.temperature) {
    request.mutable_sampling()->set_temperature(static_cast<float>(*options_.temperature));
  }
  if (options_.max_tokens > 0) request.mutable_stop()->set_max_tokens(options_.max_tokens);
  AnswerPrinter printer(std::cout, StdoutStyle(options_.show_thoughts));
  StreamedAnswer streamed = StreamAnswer(
      *stub_, request, std::chrono::milliseconds(options_.timeout_ms), printer, interrupts_);
  interrupted_ = streamed.interrupted;
  // An answer that was broken off was read as far as it came, so the next turn may speak of it.
  if (streamed.status.ok() || (interrupted_ && streamed.answer.has_content())) {
    conversation_.AddTurn(text, streamed.answer.Message());
  } else if (!interrupted_) {
    const absl::Status why = ExplainUnreached(FromGrpc(streamed.status), options_.grpc, dialer_);
    std::fprintf(stderr, "sheaf: %s\n", OneLine(std::string(why.message())).c_str());
    failed_ = true;
  }
}

bool Chat::Obey(const ChatLine& line) {
  switch (line.kind) {
    case ChatLine::Kind::kQuit:
      return false;
    case ChatLine::Kind::kSay:
      Say(line.text);
      break;
    case ChatLine::Kind::kReset:
      conversation_.Reset();
      Hint("(forgotten)\n");
      break;
    case ChatLine::Kind::kSystem:
      conversation_.SetSystem(line.text);
      Hint(line.text.empty() ? "(no system message)\n" : "(system message set)\n");
      break;
    case ChatLine::Kind::kHelp:
      std::fputs(kHelp, stderr);
      break;
    case ChatLine::Kind::kNothing:
      break;
    case ChatLine::Kind::kUnknown:
      std::fprintf(stderr, "sheaf: no command \"%s\"; /help lists them\n", line.text.c_str());
      failed_ = true;
      break;
  }
  return true;
}

int Chat::Run() {
  Hint("/help lists the commands; Ctrl-D ends.\n");
  std::string turn;
  while (true) {
    const auto event = ReadTurn(turn);
    if (!event.ok()) return Fail(event.status());
    if (*event == LineReader::Event::kEnd) {
      Hint("\n");
      break;
    }
    if (*event == LineReader::Event::kInterrupt) {
      Hint("\n");
      if (interrupted_) break;
      interrupted_ = true;
      Hint("(Ctrl-C again or Ctrl-D ends)\n");
      continue;
    }
    interrupted_ = false;
    if (!Obey(ParseChatLine(turn))) break;
  }
  return failed_ && !on_terminal() ? 1 : 0;
}

}  // namespace

int RunChat(const ChatOptions& options) {
  auto dialer = OpenDialer(options.tls);
  if (!dialer.ok()) return Fail(dialer.status());
  // A pipe has no second line to say after a Ctrl-C: there it ends the program, as it always does.
  std::optional<Interrupts> interrupts;
  if (isatty(STDIN_FILENO) == 1) interrupts.emplace();
  return Chat(options, *std::move(dialer), interrupts ? &*interrupts : nullptr).Run();
}

}  // namespace sheaf
