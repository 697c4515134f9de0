#include "model/quantization/module_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr size_t kMaxNestedGroups = 50;

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};

using CompileContext =
    std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;

std::string Reason(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

absl::StatusOr<ModuleRegex> ModuleRegex::Compile(std::string_view expression) {
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_max_pattern_length(context.get(), kMaxExpressionBytes);
  pcre2_set_parens_nest_limit(context.get(), kMaxNestedGroups);
  int error = 0;
  PCRE2_SIZE position = 0;
  // NEVER_UTF: a name is bytes, whatever the expression asks for.
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                    PCRE2_NEVER_UTF | PCRE2_NEVER_UCP, &error, &position, context.get());
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrFormat("%s (at byte %d)", Reason(error), position));
  }
  return ModuleRegex(std::shared_ptr<const void>(code, [](const void* owned) {
    pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(owned)));
  }));
}

bool ModuleRegex::Run(std::string_view text, bool from_start) const {
  const MatchContext context(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(context.get(), kMaxMatchSteps);
  pcre2_set_heap_limit(context.get(), kMaxMatchMemoryBytes / 1024);
  const auto* const code = static_cast<const pcre2_code*>(code_.get());
  const MatchData found(pcre2_match_data_create(1, nullptr));
  return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                     from_start ? PCRE2_ANCHORED : 0, found.get(), context.get()) >= 0;
}

bool ModuleRegex::Matches(std::string_view text) const { return Run(text, true); }

bool ModuleRegex::Searches(std::string_view text) const { return Run(text, false); }

}  // namespace sheaf
