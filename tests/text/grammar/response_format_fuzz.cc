// What may be said about an answer comes from clients: no bytes may crash the compiler or keep it
// busy, every fault is kInvalidArgument, and what compiles gives masks whose tokens it takes.
//
// The first byte says the kind, the rest is its text.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "tests/text/grammar/grammar_harness.h"

namespace {

using sheaf::GrammarKind;

constexpr int kSteps = 24;

[[noreturn]] void Fail(const char* what, const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.ToString().c_str());
  std::abort();
}

sheaf::GrammarSpec SpecOf(const uint8_t* bytes, size_t size) {
  sheaf::GrammarSpec spec;
  const uint8_t choice = size == 0 ? 0 : bytes[0];
  spec.kind = static_cast<GrammarKind>((choice - '0') % 7u);
  spec.any_whitespace = (choice & 0x80) != 0;
  if (size > 1) spec.text.assign(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  if (spec.kind == GrammarKind::kToolCalls) {
    spec.tool_calls.format =
        choice & 0x40 ? sheaf::ToolCallFormat::kGlm47 : sheaf::ToolCallFormat::kGlm45;
    spec.tool_calls.tools = {{"f", spec.text, true}, {"g\"", "", false}};
    spec.tool_calls.text_around = (choice & 0x80) != 0;
  }
  return spec;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  // Leaked: they live as long as the process.
  static const auto& harness = *new sheaf::testing::GrammarHarness(/*with_tags=*/true);
  const std::clock_t begin = std::clock();
  const auto compiled = harness.compiler().Compile(SpecOf(bytes, size));
  if (!compiled.ok()) {
    if (compiled.status().code() != absl::StatusCode::kInvalidArgument) {
      Fail("compile", compiled.status());
    }
    return 0;
  }
  sheaf::GrammarMatcher matcher(*compiled);
  std::vector<uint32_t> mask(matcher.MaskWords());
  uint32_t choice = static_cast<uint32_t>(size) * 2654435761u;
  for (int step = 0; step < kSteps && !matcher.finished(); ++step) {
    absl::Status status = matcher.ComputeMask(mask);
    if (!status.ok()) {
      if (status.code() == absl::StatusCode::kInternal) Fail("mask", status);
      break;
    }
    std::vector<sheaf::TokenId> allowed;
    for (size_t id = 0; id < mask.size() * 32; ++id) {
      if (sheaf::testing::IsAllowed(mask, static_cast<sheaf::TokenId>(id))) {
        allowed.push_back(static_cast<sheaf::TokenId>(id));
      }
    }
    if (allowed.empty()) break;
    choice = choice * 1664525u + 1013904223u;
    status = matcher.Accept(allowed[(choice >> 8) % allowed.size()]);
    if (status.code() == absl::StatusCode::kResourceExhausted) break;
    if (!status.ok()) {
      std::fwrite(bytes, 1, size, stderr);
      Fail("accept", status);
    }
  }
  // Ten times the bound: sanitizers are slow.
  if (std::clock() - begin > 10 * CLOCKS_PER_SEC) {
    Fail("time", absl::DeadlineExceededError("ten seconds"));
  }
  return 0;
}
