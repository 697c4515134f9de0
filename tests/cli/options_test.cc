#include "cli/options/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<Command> Parse(std::vector<std::string> arguments) {
  std::vector<const char*> argv = {"sheaf"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
}

RouterOptions Serve(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"serve", "dir"});
  auto command = Parse(std::move(arguments));
  EXPECT_TRUE(command.ok()) << command.status();
  return command.ok() ? std::get<ServeCommand>(*command).options : RouterOptions{};
}

std::string ErrorOf(std::vector<std::string> arguments) {
  const auto command = Parse(std::move(arguments));
  EXPECT_FALSE(command.ok());
  return std::string(command.status().message());
}

TEST(Options, DevicesAreSurveyedWithNcclWhereAsked) {
  EXPECT_EQ(std::get<DevicesCommand>(*Parse({"devices"})).options.nccl_library, "");
  const auto asked =
      std::get<DevicesCommand>(*Parse({"devices", "--nccl-library", "x", "--timeout-ms", "7"}));
  EXPECT_EQ(asked.options.nccl_library, "x");
  EXPECT_EQ(asked.options.timeout_ms, 7);
  EXPECT_THAT(ErrorOf({"devices", "--timeout-ms", "0"}), HasSubstr("--timeout-ms"));
}

TEST(Options, DefaultsAreThoseOfTheHelp) {
  const RouterOptions options = Serve({});
  EXPECT_EQ(options.process.checkpoint, "dir");
  EXPECT_EQ(options.host, "127.0.0.1");
  EXPECT_EQ(options.port, 8000);
  EXPECT_EQ(options.pool.workers, 1);
  EXPECT_EQ(options.target_step_ms, 0) << "automatic";
  EXPECT_EQ(options.block_size, 16);
  EXPECT_TRUE(options.enable_prefix_caching);
  EXPECT_FALSE(Serve({"--no-enable-prefix-caching"}).enable_prefix_caching);
  EXPECT_TRUE(Serve({"--enable-prefix-caching"}).enable_prefix_caching);
  EXPECT_EQ(options.kv_offload_bytes, 0);
  EXPECT_EQ(Serve({"--kv-offload-bytes", "3GiB"}).kv_offload_bytes, int64_t{3} << 30);
  EXPECT_EQ(options.kv_format, kernels::KvFormat::kBF16);
  EXPECT_EQ(options.max_connections, 16384);
  EXPECT_EQ(options.max_logprobs, 20);
  EXPECT_EQ(options.max_num_queued_requests, 1024);
  EXPECT_EQ(options.max_num_queued_tokens, 16777216);
  EXPECT_FALSE(options.seed.has_value());
  EXPECT_EQ(options.transport, TransportKind::kAuto);
  EXPECT_EQ(options.expert_timeout_ms, 5000);
  EXPECT_TRUE(options.access_log);
  EXPECT_FALSE(Serve({"--no-access-log"}).access_log);
  EXPECT_TRUE(options.vllm_metrics);
  EXPECT_FALSE(Serve({"--metrics-compat", "none"}).vllm_metrics);
  EXPECT_THAT(ErrorOf({"serve", "dir", "--metrics-compat", "tgi"}), HasSubstr("--metrics-compat"));
  EXPECT_EQ(options.metrics_keys, 32);
  EXPECT_THAT(ErrorOf({"serve", "dir", "--metrics-keys", "-1"}), HasSubstr("--metrics-keys"));
}

TEST(Options, ThePageIsOnWhereNobodyElseGets) {
  EXPECT_TRUE(Serve({}).ui);
  EXPECT_TRUE(Serve({"--host", "::1"}).ui);
  EXPECT_FALSE(Serve({"--host", "0.0.0.0"}).ui);
  EXPECT_FALSE(Serve({"--host", "router.example"}).ui);
  EXPECT_TRUE(Serve({"--host", "0.0.0.0", "--ui"}).ui);
  EXPECT_FALSE(Serve({"--no-ui"}).ui);
  EXPECT_EQ(Serve({"--ui-file", "x.html"}).ui_file, "x.html");
  EXPECT_THAT(ErrorOf({"serve", "dir", "--no-ui", "--ui-file", "x"}), HasSubstr("--ui-file"));
}

TEST(Options, TopLooksAtTheRoutersOwnPort) {
  auto command = Parse({"top"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(std::get<TopCommand>(*command).options.http, "127.0.0.1:8000");
  EXPECT_FALSE(std::get<TopCommand>(*command).options.once);
  command = Parse({"top", "--http", "h:1", "--once", "--interval", "0.5"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(std::get<TopCommand>(*command).options.http, "h:1");
  EXPECT_TRUE(std::get<TopCommand>(*command).options.once);
  EXPECT_EQ(std::get<TopCommand>(*command).options.interval_s, 0.5);
  EXPECT_THAT(ErrorOf({"top", "--interval", "0"}), HasSubstr("--interval"));
}

TEST(Options, TakesVllmNames) {
  const RouterOptions options = Serve({"--port",
                                       "0",
                                       "--grpc-port",
                                       "0",
                                       "--workers",
                                       "3",
                                       "--served-model-name",
                                       "a",
                                       "b",
                                       "--max-model-len",
                                       "4096",
                                       "--max-num-seqs",
                                       "8",
                                       "--max-num-batched-tokens",
                                       "512",
                                       "--target-step-ms",
                                       "250",
                                       "--kv-cache-dtype",
                                       "fp8_e5m2",
                                       "--kv-cache-memory-bytes",
                                       "2GiB",
                                       "--max-preparing-bytes",
                                       "64MiB",
                                       "--block-size",
                                       "32",
                                       "--seed",
                                       "7",
                                       "--max-logprobs",
                                       "-1",
                                       "--transport",
                                       "inprocess"});
  EXPECT_EQ(options.port, 0);
  EXPECT_EQ(options.pool.workers, 3);
  EXPECT_THAT(options.served_model_names, ElementsAre("a", "b"));
  EXPECT_EQ(options.max_model_len, 4096);
  EXPECT_EQ(options.target_step_ms, 250);
  EXPECT_EQ(options.kv_format, kernels::KvFormat::kFp8E5M2);
  EXPECT_EQ(options.max_preparing_bytes, 64 << 20);
  EXPECT_EQ(options.kv_cache_memory_bytes, int64_t{2} << 30);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_EQ(options.max_logprobs, -1);
  EXPECT_EQ(options.transport, TransportKind::kInProcess);
}

TEST(Options, ActivationsHave16BitsUnlessToldOtherwise) {
  EXPECT_EQ(Serve({}).activation_bits, kernels::ActivationBits::k16);
  EXPECT_EQ(Serve({"--activation-bits", "16"}).activation_bits, kernels::ActivationBits::k16);
  EXPECT_EQ(Serve({"--activation-bits", "8"}).activation_bits, kernels::ActivationBits::k8);
  EXPECT_THAT(ErrorOf({"serve", "dir", "--activation-bits", "4"}), HasSubstr("--activation-bits"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--workers", "2", "--worker-device", "cpu,cuda:0",
                       "--activation-bits", "8"}),
              HasSubstr("--activation-bits: wanted 16 with experts on a GPU, got 8 with "
                        "--worker-device cuda:0"));
}

TEST(Options, FramesBetweenHostsHaveTagsUnlessToldOtherwise) {
  EXPECT_EQ(Serve({}).exchange_integrity, FrameIntegrity::kMac);
  EXPECT_EQ(Serve({"--exchange-integrity", "none"}).exchange_integrity, FrameIntegrity::kNone);
  EXPECT_THAT(ErrorOf({"serve", "dir", "--exchange-integrity", "crc"}),
              HasSubstr("--exchange-integrity"));
}

TEST(Options, AllowedOriginsAreValuesOrAJsonList) {
  EXPECT_TRUE(Serve({}).allowed_origins.empty());
  EXPECT_THAT(Serve({"--allowed-origins", "*"}).allowed_origins, ElementsAre("*"));
  EXPECT_THAT(Serve({"--allowed-origins", R"(["*"])"}).allowed_origins, ElementsAre("*"));
  EXPECT_THAT(
      Serve({"--allowed-origins", "https://a.example", "http://localhost:3000"}).allowed_origins,
      ElementsAre("https://a.example", "http://localhost:3000"));
  EXPECT_THAT(Serve({"--allowed-origins", R"(["https://a.example", "null"])", "--allowed-origins",
                     "https://b.example"})
                  .allowed_origins,
              ElementsAre("https://a.example", "null", "https://b.example"));
  const std::string path = testing::TempDir() + "/sheaf_origins_test.yaml";
  std::ofstream(path) << "allowed-origins: [\"https://a.example\", \"http://b\"]\n";
  EXPECT_THAT(Serve({"--config", path}).allowed_origins,
              ElementsAre("https://a.example", "http://b"));
  for (const char* bad : {"example.com", "https://a.example/", "https://*.example", R"(["a"])",
                          R"([1])", R"(["*")", ""}) {
    EXPECT_THAT(ErrorOf({"serve", "dir", "--allowed-origins", bad}), HasSubstr("--allowed-origins"))
        << bad;
  }
}

TEST(Options, DevicesOfWorkers) {
  EXPECT_THAT(Serve({}).worker_devices, ElementsAre("cpu"));
  EXPECT_THAT(Serve({"--worker-device", "cpu,cuda:0,cuda:12"}).worker_devices,
              ElementsAre("cpu", "cuda:0", "cuda:12"));
  EXPECT_THAT(Serve({"--worker-device", "cuda:1", "cpu"}).worker_devices,
              ElementsAre("cuda:1", "cpu"))
      << "as a list in --config comes";
  const auto command = Parse({"worker", "dir", "--coordinator", "host:1", "--device", "cuda:3"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(std::get<WorkerCommand>(*command).options.device, "cuda:3");
  for (const char* wrong :
       {"", "CPU", "cuda", "cuda:", "cuda:-1", "cuda:01", "cuda:1 ", "rocm:0"}) {
    EXPECT_THAT(ErrorOf({"worker", "dir", "--coordinator", "host:1", "--device", wrong}),
                HasSubstr("--device: wanted cpu or cuda:N"))
        << wrong;
  }
  EXPECT_THAT(ErrorOf({"serve", "dir", "--workers", "0", "--worker-device", "cuda:0"}),
              HasSubstr("with --workers 0"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--transport", "inprocess", "--worker-device", "cuda:0"}),
              HasSubstr("with --transport inprocess"));
}

TEST(Options, ConfigFileIsOverruledByTheCommandLine) {
  const std::string path = testing::TempDir() + "/sheaf_options_test.yaml";
  std::ofstream(path) << "max-model-len: 1024\nworkers: 5\nserved-model-name: [x, y]\n";
  const RouterOptions options = Serve({"--config", path, "--workers", "2"});
  EXPECT_EQ(options.max_model_len, 1024);
  EXPECT_EQ(options.pool.workers, 2);
  EXPECT_THAT(options.served_model_names, ElementsAre("x", "y"));
}

TEST(Options, ConfigFileKnowsFlagsWithoutValues) {
  const std::string path = testing::TempDir() + "/sheaf_options_flags.yaml";
  std::ofstream(path) << "enable-auto-tool-choice: true\ntrust-request-chat-template: true\n"
                         "json-any-whitespace: false\nreasoning-parser: none\n";
  const RouterOptions options = Serve({"--config", path});
  EXPECT_TRUE(options.trust_request_chat_template);
  EXPECT_FALSE(options.json_any_whitespace);
  EXPECT_EQ(options.reasoning_parser, "none");
  EXPECT_EQ(options.process.checkpoint, "dir");
}

TEST(Options, AnEmptyConfigFileSetsNothing) {
  const std::string path = testing::TempDir() + "/sheaf_options_empty.yaml";
  for (const char* text : {"", "\n\n", "# port: 1\n", "---\n", "{}\n"}) {
    std::ofstream(path) << text;
    EXPECT_EQ(Serve({"--config", path}).port, 8000) << '"' << text << '"';
  }
  for (const char* text : {"port\n", "- port\n", "0\n"}) {
    std::ofstream(path) << text;
    EXPECT_THAT(ErrorOf({"serve", "dir", "--config", path}), HasSubstr("wanted a map")) << text;
  }
}

TEST(Options, WrongValuesNameTheFlag) {
  EXPECT_THAT(ErrorOf({"serve", "dir", "--port", "70000"}), HasSubstr("--port"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--workers", "-1"}), HasSubstr("--workers"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--kv-cache-dtype", "int3"}), HasSubstr("--kv-cache-dtype"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--block-size", "0"}), HasSubstr("--block-size"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--kv-offload-path", "/tmp"}),
              HasSubstr("--kv-offload-bytes"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--kv-offload-bytes", "1GiB", "--no-enable-prefix-caching"}),
              HasSubstr("--kv-offload-bytes"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--no-such-flag"}), HasSubstr("--no-such-flag"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--served-model-name", ""}),
              HasSubstr("--served-model-name"));
  EXPECT_THAT(ErrorOf({"verify", "dir", "--rows", "0"}), HasSubstr("--rows"));
  EXPECT_THAT(ErrorOf({"serve"}), HasSubstr("checkpoint"));
  const std::string path = testing::TempDir() + "/sheaf_options_bad.yaml";
  std::ofstream(path) << "no-such-flag: 1\n";
  EXPECT_THAT(ErrorOf({"serve", "dir", "--config", path}), HasSubstr("no-such-flag"));
}

TEST(Options, VerifyTakesWhatItCompares) {
  const auto command = Parse({"verify", "dir", "--reference", "--rows", "40", "--seed", "7"});
  ASSERT_TRUE(command.ok()) << command.status();
  const VerifyOptions& options = std::get<VerifyCommand>(*command).options;
  EXPECT_EQ(options.checkpoint, "dir");
  EXPECT_TRUE(options.reference);
  EXPECT_EQ(options.rows, 40);
  EXPECT_EQ(options.seed, 7u);
}

TEST(Options, AskAndChatTakeTheSameWords) {
  const auto ask = Parse({"ask", "q", "--no-thinking", "--show-thoughts", "--max-tokens", "7"});
  ASSERT_TRUE(ask.ok()) << ask.status();
  const AskOptions& asked = std::get<AskCommand>(*ask).options;
  EXPECT_TRUE(asked.no_thinking && asked.show_thoughts);
  EXPECT_EQ(asked.max_tokens, 7);
  const auto chat = Parse({"chat", "--system", "Be brief.", "--temperature", "0"});
  ASSERT_TRUE(chat.ok()) << chat.status();
  const ChatOptions& chatted = std::get<ChatCommand>(*chat).options;
  EXPECT_EQ(chatted.system, "Be brief.");
  EXPECT_EQ(chatted.temperature, 0.0);
  EXPECT_FALSE(chatted.no_thinking || chatted.show_thoughts);
  EXPECT_THAT(ErrorOf({"chat", "--max-tokens", "-1"}), HasSubstr("--max-tokens"));
  EXPECT_THAT(ErrorOf({"ask", "q", "--raw", "--no-thinking"}), HasSubstr("--no-thinking"));
}

TEST(Options, HelpIsNoError) {
  const auto command = Parse({"serve", "--help"});
  ASSERT_TRUE(command.ok());
  EXPECT_THAT(std::get<HelpText>(*command).text, HasSubstr("--kv-cache-dtype"));
  for (const char* name : {"serve", "router", "worker", "attention", "coordinator", "repack"}) {
    const auto help = Parse({name, "--help"});
    ASSERT_TRUE(help.ok()) << help.status();
    const std::string& text = std::get<HelpText>(*help).text;
    EXPECT_EQ(text.find('\0'), std::string::npos) << name << ": it would end there on a terminal";
  }
}

TEST(Options, APoolIsToldToWhoeverHasItsCoordinator) {
  const RouterOptions options = Serve({"--expert-replicas", "1.5", "--cluster-port", "7000",
                                       "--lease-ms", "500", "--cluster-token-file", "token",
                                       "--combine-format", "int16", "--verify-share", "0.01"});
  EXPECT_EQ(options.pool.expert_replicas, 1.5);
  EXPECT_EQ(options.pool.cluster_port, 7000);
  EXPECT_EQ(options.pool.lease_ms, 500);
  EXPECT_EQ(options.pool.cluster_token_file, "token");
  EXPECT_TRUE(options.int16_combine);
  EXPECT_EQ(options.verify_share, 0.01);
  EXPECT_EQ(Serve({}).pool.cluster_port, 0) << "only its own children join";

  const auto coordinator = Parse({"coordinator", "dir", "--workers", "3"});
  ASSERT_TRUE(coordinator.ok());
  EXPECT_EQ(std::get<CoordinatorCommand>(*coordinator).options.pool.workers, 3);
  EXPECT_EQ(std::get<CoordinatorCommand>(*coordinator).options.pool.cluster_port, 50052);
}

TEST(Options, AWorkerTakesTheNamesOfBefore) {
  for (const bool old : {false, true}) {
    const auto command = Parse({"worker", "dir", old ? "--router" : "--coordinator", "host:1",
                                old ? "--slot" : "--id", "4", "--memory-bytes", "2GiB",
                                "--exchange-ports", "7000-7009"});
    ASSERT_TRUE(command.ok()) << command.status();
    const WorkerOptions& options = std::get<WorkerCommand>(*command).options;
    EXPECT_EQ(options.coordinator, "host:1");
    EXPECT_EQ(options.id, 4);
    EXPECT_EQ(options.memory_bytes, uint64_t{2} << 30);
    EXPECT_EQ(options.first_exchange_port, 7000);
    EXPECT_EQ(options.last_exchange_port, 7009);
  }
  for (const char* ports : {"0-5", "9-8", "7000-", "x", "1-70000"}) {
    EXPECT_FALSE(
        Parse({"worker", "dir", "--coordinator", "host:1", "--exchange-ports", ports}).ok())
        << ports;
  }
}

TEST(Options, LmHeadStaysAsItIsUnlessAsked) {
  EXPECT_EQ(Serve({}).lm_head, LmHeadDtype::kAuto);
  EXPECT_EQ(Serve({"--lm-head-dtype", "auto"}).lm_head, LmHeadDtype::kAuto);
  EXPECT_EQ(Serve({"--lm-head-dtype", "int8"}).lm_head, LmHeadDtype::kInt8);
  EXPECT_THAT(ErrorOf({"router", "dir", "--lm-head-dtype", "int4"}), HasSubstr("--lm-head-dtype"));
  const auto inspect = Parse({"inspect", "dir", "--lm-head-dtype", "int8"});
  ASSERT_TRUE(inspect.ok()) << inspect.status();
  EXPECT_EQ(std::get<InspectCommand>(*inspect).options.lm_head, LmHeadDtype::kInt8);
  // A rank is told by its router.
  EXPECT_THAT(ErrorOf({"attention", "dir", "--router", "h:1", "--rank", "1", "--lm-head-dtype",
                       "int8"}),
              HasSubstr("--lm-head-dtype"));
}

TEST(Options, AttentionRanksAreTheRoutersToCount) {
  EXPECT_EQ(Serve({}).tensor_parallel_size, 1);
  EXPECT_EQ(Serve({}).attention_port, 0);  // its own children are told
  EXPECT_EQ(Serve({"--tensor-parallel-size", "4"}).tensor_parallel_size, 4);
  const auto router =
      Parse({"router", "dir", "--tensor-parallel-size", "2", "--attention-timeout-ms", "500"});
  ASSERT_TRUE(router.ok()) << router.status();
  EXPECT_EQ(std::get<RouterCommand>(*router).options.attention_port, 50053);
  EXPECT_EQ(std::get<RouterCommand>(*router).options.attention_timeout_ms, 500);
  EXPECT_FALSE(Serve({}).whole_latents);
  EXPECT_TRUE(Serve({"--latent-cache", "whole"}).whole_latents);
  EXPECT_THAT(ErrorOf({"router", "dir", "--latent-cache", "half"}), HasSubstr("--latent-cache"));
  const auto rank =
      Parse({"attention", "dir", "--router", "host:50053", "--rank", "3", "--transport", "tcp"});
  ASSERT_TRUE(rank.ok()) << rank.status();
  const AttentionOptions& options = std::get<AttentionCommand>(*rank).options;
  EXPECT_EQ(options.router, "host:50053");
  EXPECT_EQ(options.rank, 3);
  EXPECT_EQ(options.transport, TransportKind::kTcp);
  EXPECT_EQ(options.host, "127.0.0.1");
  EXPECT_EQ(options.metrics_port, 0);
  EXPECT_THAT(ErrorOf({"attention", "dir", "--router", "host:1", "--rank", "1", "--metrics-tls"}),
              HasSubstr("--cluster-tls-cert: wanted with --metrics-tls"));
  EXPECT_THAT(ErrorOf({"attention", "dir", "--router", "host:1"}), HasSubstr("--rank"));
  EXPECT_THAT(ErrorOf({"attention", "dir", "--router", "host:1", "--rank", "0"}),
              HasSubstr("--rank"));
  EXPECT_THAT(ErrorOf({"attention", "dir", "--router", "host:1", "--rank", "1", "--transport",
                       "inprocess"}),
              HasSubstr("--transport"));
  EXPECT_THAT(ErrorOf({"serve", "dir", "--tensor-parallel-size", "0"}),
              HasSubstr("--tensor-parallel-size"));
  EXPECT_THAT(
      ErrorOf({"serve", "dir", "--tensor-parallel-size", "2", "--kv-offload-bytes", "1GiB"}),
      HasSubstr("--kv-offload-bytes: wanted with --tensor-parallel-size 1"));
}

TEST(Options, NumaNodes) {
  EXPECT_FALSE(Serve({}).numa);
  EXPECT_TRUE(Serve({"--numa"}).numa);
  EXPECT_EQ(Serve({"--numa"}).process.numa_node, -1) << "that is planned";
  const std::string config = ::testing::TempDir() + "/numa.yaml";
  std::ofstream(config) << "numa: true\n";
  EXPECT_TRUE(Serve({"--config", config}).numa);
  const auto router = Parse({"router", "dir", "--numa-node", "1"});
  ASSERT_TRUE(router.ok()) << router.status();
  EXPECT_EQ(std::get<RouterCommand>(*router).options.process.numa_node, 1);
  std::ofstream(config) << "numa-node: 2\n";
  const auto worker = Parse({"worker", "dir", "--coordinator", "host:1", "--config", config});
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_EQ(std::get<WorkerCommand>(*worker).options.process.numa_node, 2);
  const auto rank =
      Parse({"attention", "dir", "--router", "host:1", "--rank", "1", "--numa-node", "0"});
  ASSERT_TRUE(rank.ok()) << rank.status();
  EXPECT_EQ(std::get<AttentionCommand>(*rank).options.process.numa_node, 0);
  EXPECT_THAT(ErrorOf({"worker", "dir", "--coordinator", "host:1", "--numa-node", "-2"}),
              HasSubstr("--numa-node"));
  EXPECT_THAT(ErrorOf({"router", "dir", "--numa"}), HasSubstr("--numa")) << "it has no children";
}

TEST(Options, PoolCommandsNameTheirAction) {
  const auto action = [](std::vector<std::string> arguments) {
    const auto command = Parse(std::move(arguments));
    EXPECT_TRUE(command.ok()) << command.status();
    return std::get<PoolCommand>(*command).options;
  };
  using Action = PoolCommandOptions::Action;
  EXPECT_TRUE(action({"pool", "status", "--json"}).json);
  EXPECT_EQ(action({"pool", "drain", "3", "--coordinator", "host:1"}).action, Action::kDrain);
  EXPECT_EQ(action({"pool", "drain", "3", "--coordinator", "host:1"}).coordinator, "host:1");
  EXPECT_EQ(action({"pool", "undrain", "2"}).worker, 2);
  EXPECT_EQ(action({"pool", "replicas", "2.5"}).replicas, 2.5);
  EXPECT_EQ(action({"pool", "rebalance"}).action, Action::kRebalance);
  EXPECT_FALSE(Parse({"pool"}).ok());
  EXPECT_FALSE(Parse({"pool", "drain"}).ok());
  EXPECT_FALSE(Parse({"pool", "replicas", "0.5"}).ok());
}

}  // namespace
}  // namespace sheaf
