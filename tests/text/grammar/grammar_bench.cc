// What grammars cost: preparing a vocabulary, compiling, a mask, taking a token.
//
//   grammar_bench [VOCABULARY ...]     default: 4096 151552
//
// Each grammar is walked with random allowed tokens, five times, up to 400 steps.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/text/grammar/grammar_harness.h"

namespace {

using sheaf::GrammarKind;
using Clock = std::chrono::steady_clock;

double Microseconds(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

struct Sample {
  std::vector<double> times;
  double Quantile(double q) {
    if (times.empty()) return 0;
    std::sort(times.begin(), times.end());
    return times[std::min(times.size() - 1, static_cast<size_t>(q * times.size()))];
  }
};

sheaf::GrammarSpec ToolSpec(sheaf::ToolCallFormat format) {
  sheaf::GrammarSpec spec;
  spec.kind = GrammarKind::kToolCalls;
  spec.tool_calls.format = format;
  for (int i = 0; i < 20; ++i) {
    spec.tool_calls.tools.push_back(
        {"tool_" + std::to_string(i),
         R"({"type":"object","properties":{"path":{"type":"string"},"line":{"type":"integer"},
             "edits":{"type":"array","items":{"type":"object","properties":{"old":{"type":"string"},
             "new":{"type":"string"}},"required":["old","new"]}},"force":{"type":["boolean","null"]}},
             "required":["path"]})",
         true});
  }
  return spec;
}

std::vector<std::pair<const char*, sheaf::GrammarSpec>> Specs() {
  using sheaf::testing::Spec;
  auto around = ToolSpec(sheaf::ToolCallFormat::kGlm47);
  around.tool_calls.text_around = true;
  around.tool_calls.min_calls = 0;
  return {
      {"json_object", Spec(GrammarKind::kJsonObject, "")},
      {"person",
       Spec(GrammarKind::kJsonSchema,
            R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer",
              "minimum":0,"maximum":150},"mail":{"type":"string","format":"email"},"tags":{"type":"array",
              "items":{"enum":["a","b","c"]},"maxItems":5},"address":{"type":"object","properties":{
              "street":{"type":"string","maxLength":60},"zip":{"type":"string","pattern":"^[0-9]{5}$"}},
              "required":["street","zip"],"additionalProperties":false}},
              "required":["name","age","mail","tags","address"],"additionalProperties":false})")},
      {"list of strings", Spec(GrammarKind::kJsonSchema,
                               R"({"type":"array","items":{"type":"string"},"minItems":50})")},
      {"regex", Spec(GrammarKind::kRegex, "([A-Z][a-z]+ ){20,400}[0-9]{4}-[0-9]{2}")},
      {"choice", Spec(GrammarKind::kChoice, R"(["positive","negative","neutral"])")},
      {"tools glm45", ToolSpec(sheaf::ToolCallFormat::kGlm45)},
      {"tools glm47", ToolSpec(sheaf::ToolCallFormat::kGlm47)},
      {"text and tools", around},
  };
}

void Run(size_t vocab_size) {
  const auto tokenizer = sheaf::testing::MakeLargeTokenizer(vocab_size, /*seed=*/1);
  const auto prepare = Clock::now();
  const auto compiler = *sheaf::GrammarCompiler::Create(*tokenizer, vocab_size);
  std::printf("vocabulary %zu: prepared in %.0f ms\n", vocab_size, Microseconds(prepare) / 1e3);
  std::printf("  %-16s %10s %8s %8s %8s %8s %8s %8s\n", "us", "compile", "start", "mask p50", "p99",
              "max", "take p50", "p99");
  std::mt19937_64 random(7);
  for (const auto& [name, spec] : Specs()) {
    const auto compile = Clock::now();
    const auto grammar = compiler->Compile(spec);
    const double compile_us = Microseconds(compile);
    if (!grammar.ok()) {
      std::printf("  %-16s %s\n", name, grammar.status().ToString().c_str());
      continue;
    }
    Sample start, masks, takes;
    for (int run = 0; run < 5; ++run) {
      const auto begin = Clock::now();
      sheaf::GrammarMatcher matcher(*grammar);
      start.times.push_back(Microseconds(begin));
      std::vector<uint32_t> mask(matcher.MaskWords());
      for (int step = 0; step < 400 && !matcher.finished(); ++step) {
        const auto mask_begin = Clock::now();
        if (!matcher.ComputeMask(mask).ok()) break;
        masks.times.push_back(Microseconds(mask_begin));
        std::vector<sheaf::TokenId> allowed;
        for (size_t id = 0; id < vocab_size; ++id) {
          if (sheaf::testing::IsAllowed(mask, id))
            allowed.push_back(static_cast<sheaf::TokenId>(id));
        }
        if (allowed.empty()) break;
        const auto take_begin = Clock::now();
        if (!matcher.Accept(allowed[random() % allowed.size()]).ok()) break;
        takes.times.push_back(Microseconds(take_begin));
      }
    }
    std::printf("  %-16s %10.0f %8.0f %8.0f %8.0f %8.0f %8.1f %8.1f\n", name, compile_us,
                start.Quantile(0.5), masks.Quantile(0.5), masks.Quantile(0.99), masks.Quantile(1),
                takes.Quantile(0.5), takes.Quantile(0.99));
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<size_t> sizes;
  for (int i = 1; i < argc; ++i) {
    sizes.push_back(std::strtoull(argv[i], nullptr, 10));
    if (sizes.back() < 1'000) {
      std::fprintf(stderr, "grammar_bench [VOCABULARY ...]: sizes from 1000 on\n");
      return 2;
    }
  }
  if (sizes.empty()) sizes = {4096, 151552};
  for (const size_t size : sizes) Run(size);
}
