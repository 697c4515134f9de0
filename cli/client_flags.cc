#include "cli/client_flags.h"

#include <CLI/CLI.hpp>

namespace sheaf {
namespace {

// Those that both have.
template <typename Options>
void AddClientFlags(CLI::App& app, Options& options) {
  app.add_option("--grpc", options.grpc, "gRPC address of the router, host:port")
      ->capture_default_str();
  app.add_flag("--no-thinking", options.no_thinking, "Have the model answer without thoughts");
  app.add_flag(
      "--show-thoughts", options.show_thoughts,
      "Print the model's thoughts to a pipe or file too; without it they are shown (dimmed) "
      "on a terminal only");
  app.add_option("--timeout-ms", options.timeout_ms, "Longest time for an answer")
      ->check(CLI::Range(1, 86400000))
      ->capture_default_str();
}

}  // namespace

void AddAskFlags(CLI::App& app, AskOptions& options) {
  app.add_option("question", options.question)->required();
  AddClientFlags(app, options);
  app.add_option("--max-tokens", options.max_tokens, "Of the answer, thoughts included")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--temperature", options.temperature, "0 = the most probable token always")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str();
  app.add_flag("--raw", options.raw, "Complete the text as it is, without the chat template")
      ->excludes("--no-thinking");
}

void AddChatFlags(CLI::App& app, ChatOptions& options) {
  AddClientFlags(app, options);
  app.add_option("--system", options.system, "System message; default: none");
  app.add_option("--max-tokens", options.max_tokens,
                 "Of an answer, thoughts included; 0 = what is left of the context")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--temperature", options.temperature,
                 "0 = the most probable token always; default: the checkpoint's")
      ->check(CLI::Range(0.0, 10.0));
}

}  // namespace sheaf
