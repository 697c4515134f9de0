#include "router/text/grammar/grammar_compiler.h"

#include <list>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "router/text/grammar/compiled_grammar.h"
#include "router/text/grammar/fault_place.h"
#include "router/text/grammar/grammar_lark.h"
#include "router/text/rust_bridge.h"

namespace sheaf {
namespace {

// What a grammar holds beside its own text, roughly: measured between 30 and 300 KiB.
constexpr size_t kGrammarBytes = size_t{128} << 10;
// A byte of Lark becomes about so many bytes of rules and lexer states.
constexpr size_t kBytesPerLarkByte = 32;

const char* KindName(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::kJsonSchema:
    case GrammarKind::kJsonObject:
      return "JSON schema";
    case GrammarKind::kRegex:
      return "regex";
    case GrammarKind::kChoice:
      return "choice";
    case GrammarKind::kLark:
      return "grammar";
    case GrammarKind::kStructuralTag:
      return "structural tag";
    case GrammarKind::kToolCalls:
      return "tools";
  }
  return "grammar";
}

bool IsClientsLark(const GrammarSpec& spec) {
  const auto& answer = spec.tool_calls.or_answer;
  return spec.kind == GrammarKind::kLark ||
         (spec.kind == GrammarKind::kToolCalls && answer != nullptr &&
          answer->kind == GrammarKind::kLark);
}

// Least recently used goes first. Not thread-safe.
class GrammarCache {
 public:
  using Grammar = std::shared_ptr<const CompiledGrammar>;

  explicit GrammarCache(const GrammarCacheLimits& limits) : limits_(limits) {}

  Grammar Find(const std::string& lark) {
    const auto found = by_text_.find(lark);
    if (found == by_text_.end()) return nullptr;
    recent_.splice(recent_.begin(), recent_, found->second);
    return found->second->grammar;
  }

  void Add(const std::string& lark, Grammar grammar) {
    if (by_text_.contains(lark)) return;
    recent_.push_front({lark, std::move(grammar)});
    by_text_.emplace(recent_.front().lark, recent_.begin());
    bytes_ += Bytes(lark);
    while (recent_.size() > limits_.max_grammars || bytes_ > limits_.max_bytes) {
      bytes_ -= Bytes(recent_.back().lark);
      by_text_.erase(recent_.back().lark);
      recent_.pop_back();
      if (recent_.empty()) break;
    }
  }

 private:
  struct Entry {
    std::string lark;
    Grammar grammar;
  };

  static size_t Bytes(const std::string& lark) {
    return kGrammarBytes + kBytesPerLarkByte * lark.size();
  }

  const GrammarCacheLimits limits_;
  std::list<Entry> recent_;
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_text_;
  size_t bytes_ = 0;
};

}  // namespace

struct GrammarCompiler::Impl {
  Impl(const Tokenizer& tokenizer, size_t vocabulary, const SheafGrammarFactory* grammars,
       const GrammarCacheLimits& limits)
      : vocab_size(vocabulary),
        factory(grammars),
        markup(FindMarkupTokens(tokenizer)),
        cache(limits) {}
  ~Impl() { sheaf_grammar_factory_free(factory); }

  // The message of an error stands alone.
  absl::StatusOr<SheafGrammar*> CompileLark(const GrammarSpec& spec,
                                            const std::string& lark) const {
    SheafGrammar* start = nullptr;
    SheafBuffer error{};
    const SheafTextCode code =
        sheaf_grammar_compile(factory, ToSheafText(lark),
                              /*may_be_ambiguous=*/IsClientsLark(spec), &start, &error);
    if (code == SHEAF_TEXT_OK) return start;
    if (code == SHEAF_TEXT_INVALID_ARGUMENT) return absl::InvalidArgumentError(TakeString(error));
    return TakeError(code, error, KindName(spec.kind));
  }

  const size_t vocab_size;
  const SheafGrammarFactory* const factory;  // owned
  const MarkupTokens markup;

  absl::Mutex mutex;
  GrammarCache cache ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<std::unique_ptr<GrammarCompiler>> GrammarCompiler::Create(
    const Tokenizer& tokenizer, size_t vocab_size, const GrammarCacheLimits& limits) {
  const SheafGrammarFactory* factory = nullptr;
  SheafBuffer error{};
  const SheafTextCode code =
      sheaf_grammar_factory_new(tokenizer.handle(), vocab_size, &factory, &error);
  if (code != SHEAF_TEXT_OK) return TakeError(code, error, "cannot prepare grammars");
  return std::unique_ptr<GrammarCompiler>(
      new GrammarCompiler(std::make_unique<Impl>(tokenizer, vocab_size, factory, limits)));
}

GrammarCompiler::GrammarCompiler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrammarCompiler::~GrammarCompiler() = default;

size_t GrammarCompiler::vocab_size() const { return impl_->vocab_size; }

absl::StatusOr<std::shared_ptr<const CompiledGrammar>> GrammarCompiler::Compile(
    const GrammarSpec& spec) {
  SHEAF_ASSIGN_OR_RETURN(const std::string lark, GrammarLark(spec, impl_->markup));
  {
    absl::MutexLock lock(&impl_->mutex);
    if (auto cached = impl_->cache.Find(lark)) return cached;
  }
  // Two threads with the same new grammar both compile it; nobody waits for another's.
  absl::StatusOr<SheafGrammar*> start = impl_->CompileLark(spec, lark);
  if (!start.ok()) {
    if (!absl::IsInvalidArgument(start.status())) return start.status();
    const std::string place = FaultPlace(spec, [this](const GrammarSpec& part) {
      const auto part_lark = GrammarLark(part, impl_->markup);
      if (!part_lark.ok()) return true;  // taken out of its place it is another thing
      const auto grammar = impl_->CompileLark(part, *part_lark);
      if (grammar.ok()) sheaf_grammar_free(*grammar);
      return grammar.ok();
    });
    const std::string where = place.empty() ? "" : " " + place;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s%s: %s", KindName(spec.kind), where, start.status().message()));
  }
  auto grammar = std::make_shared<const CompiledGrammar>(*start, impl_->vocab_size);
  absl::MutexLock lock(&impl_->mutex);
  impl_->cache.Add(lark, grammar);
  return grammar;
}

}  // namespace sheaf
