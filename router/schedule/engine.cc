#include "router/schedule/engine.h"

#include <pthread.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/status.h"
#include "router/schedule/queue/admission.h"
#include "router/schedule/queue/cluster_gate.h"
#include "router/schedule/queue/request_ledger.h"
#include "router/schedule/step/sequence.h"
#include "router/schedule/step/step_loop.h"

namespace sheaf {
namespace {

// Runs of a grammar spell a text in one way; a request that names token ids itself may want
// another.
bool NamesTokens(const GenerationRequest& request) {
  return !request.sampling.logit_bias.empty() || !request.sampling.allowed_token_ids.empty() ||
         !request.stop.stop_token_ids.empty() || !request.bad_words.empty();
}

Admission::Limits AdmissionLimits(const EngineOptions& options, const EngineParts& parts) {
  return {options.max_queued_requests, options.max_queued_tokens, options.max_model_len,
          parts.cache->capacity_tokens(), parts.decoder->vocab_size()};
}

}  // namespace

Engine::Engine(EngineOptions options, EngineParts parts)
    : options_(std::move(options)),
      parts_(std::move(parts)),
      cluster_(std::make_unique<ClusterGate>(parts_.cluster_ready)),
      ledger_(std::make_unique<RequestLedger>(AdmissionLimits(options_, parts_), *parts_.clock)),
      loop_(std::make_unique<StepLoop>(options_, parts_, *cluster_, *ledger_)) {
  thread_ = std::thread([loop = loop_.get()] {
    pthread_setname_np(pthread_self(), "sheaf-step");
    loop->Run();
  });
}

Engine::~Engine() { Stop(TimePoint::min()); }

absl::StatusOr<std::unique_ptr<Sequence>> Engine::MakeSequence(Submission choice) {
  GenerationRequest& request = choice.request;
  SHEAF_RETURN_IF_ERROR(Admission::CheckFits(request, ledger_->limits()));
  SHEAF_ASSIGN_OR_RETURN(StopStrings stop_strings, StopStrings::Create(request.stop.stop_strings));
  std::unique_ptr<OutputGuide> guide;
  if (request.guide != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(guide, OutputGuide::Create(request.guide, !NamesTokens(request)));
  }
  auto sequence = std::make_unique<Sequence>(
      ledger_->NewId(), std::move(request), std::move(choice.sink), *parts_.tokenizer,
      std::make_shared<const StopStrings>(std::move(stop_strings)),
      Sequence::Limits{options_.eos_token_ids, options_.max_model_len}, parts_.clock->Now(),
      std::move(guide));
  SHEAF_RETURN_IF_ERROR(sequence->TakePriorOutput());
  return sequence;
}

// Here and not on the step thread: it is the one cost of the prefix cache that grows with the
// prompt. `before`: another choice, perhaps of the same prompt; null: none.
void Engine::NameBlocks(Sequence& sequence, const Sequence* before) const {
  if (!options_.prefix_cache.enabled) return;
  const std::string& salt = sequence.request().cache_salt;
  if (before != nullptr && before->request().cache_salt == salt &&
      std::ranges::equal(before->tokens(), sequence.tokens())) {
    sequence.prefix.chain = before->prefix.chain;
    return;
  }
  sequence.prefix.chain.Extend(BlockHasher(options_.prefix_cache.key), salt, sequence.tokens(),
                               parts_.cache->block_size());
}

absl::StatusOr<std::vector<SequenceId>> Engine::SubmitAll(std::vector<Submission> choices) {
  int64_t tokens = 0;
  for (const Submission& choice : choices) {
    tokens += static_cast<int64_t>(choice.request.prompt.size() +
                                   choice.request.prior_output.size());
  }
  // Before anything is made of them: a full queue refuses quickly.
  SHEAF_RETURN_IF_ERROR(ledger_->CheckRoom(static_cast<int64_t>(choices.size()), tokens));
  std::vector<SequenceId> ids;
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (Submission& choice : choices) {
    SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, MakeSequence(std::move(choice)));
    NameBlocks(*sequence, sequences.empty() ? nullptr : sequences.back().get());
    ids.push_back(sequence->id());
    sequences.push_back(std::move(sequence));
  }
  if (const absl::Status cluster = cluster_->LookForSubmit(); !cluster.ok()) {
    return absl::UnavailableError(std::string(cluster.message()));
  }
  SHEAF_RETURN_IF_ERROR(ledger_->AddAll(std::move(sequences)));
  return ids;
}

void Engine::Cancel(SequenceId sequence) { ledger_->Cancel(sequence); }

bool Engine::ready() const { return !ledger_->stopping() && cluster_->Look().ok(); }

bool Engine::accepting() const { return !ledger_->stopping() && cluster_->LookForSubmit().ok(); }

bool Engine::live() const {
  const TimePoint since = loop_->awake_since();
  if (since == TimePoint::max()) return true;
  if (parts_.clock->Now() - since <= options_.max_step_time) return true;
  return !cluster_->Look().ok();
}

EngineLoad Engine::load() const {
  EngineLoad load = ledger_->load();
  load.total_blocks = loop_->total_kv_blocks();
  load.used_blocks = load.total_blocks - loop_->free_kv_blocks();
  return load;
}

Duration Engine::RetryAfter() const { return ledger_->RetryAfter(); }

void Engine::ResetPrefixCache() {
  loop_->ResetPrefixCache();
  ledger_->ClusterChanged();  // an idle step thread does it now
}

int32_t Engine::max_model_len() const { return options_.max_model_len; }

bool Engine::StepIsMoot() { return loop_->StepIsMoot(); }

void Engine::Stop(TimePoint deadline) {
  ledger_->StopAt(deadline);
  absl::MutexLock lock(&join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void Engine::Wake() { ledger_->ClusterChanged(); }

int Engine::free_kv_blocks() const { return loop_->free_kv_blocks(); }

}  // namespace sheaf
