#include "cli/options/client_flags.h"

#include <CLI/CLI.hpp>

namespace sheaf {
namespace {

// Those that both have.
template <typename Options>
void AddClientFlags(CLI::App& app, Options& options) {
  app.add_option("--grpc", options.grpc, "gRPC address of the router, host:port")
      ->capture_default_str();
  AddDialTlsFlags(app, options.tls);
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

void AddDialTlsFlags(CLI::App& app, DialTlsOptions& options) {
  app.add_flag("--tls", options.on, "Ask over TLS; any of the other --tls flags means it too");
  app.add_option("--tls-ca", options.ca,
                 "CAs (PEM) of the server's certificate; default: the system's");
  app.add_option("--tls-cert", options.cert,
                 "Certificate to show if the server wants one (PEM); default: none");
  app.add_option("--tls-key", options.key, "Its private key (PEM, without a passphrase)");
  app.add_option("--tls-server-name", options.server_name,
                 "Name that the server's certificate must have: a DNS name, an address or a SPIFFE "
                 "id; default: the host that is asked");
}

void AddTopFlags(CLI::App& app, TopOptions& options) {
  app.add_option("--http", options.http, "HTTP address of the router, host:port")
      ->capture_default_str();
  AddDialTlsFlags(app, options.tls);
  app.add_option("--interval", options.interval_s, "Seconds between two frames")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  app.add_flag("--once", options.once, "Print one frame, without colours, and end");
  app.add_option("--timeout-ms", options.timeout_ms, "Longest wait for an answer")
      ->check(CLI::Range(1, 3600000))
      ->capture_default_str();
}

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
