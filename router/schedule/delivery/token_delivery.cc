#include "router/schedule/delivery/token_delivery.h"

#include <pthread.h>

#include <iterator>
#include <utility>
#include <variant>

namespace sheaf {
namespace {

size_t BytesOf(const TokenLogprobs& logprobs) {
  return sizeof(TokenLogprobs) + logprobs.top.size() * sizeof(TokenLogprob);
}

size_t BytesOf(const Message& message) {
  size_t bytes = 0;
  if (const auto* token = std::get_if<NewToken>(&message)) {
    if (token->logprobs.has_value()) bytes = BytesOf(*token->logprobs);
  } else if (const auto* piece = std::get_if<PromptLogprobsPiece>(&message)) {
    for (const auto& entry : piece->entries) {
      bytes += entry.has_value() ? BytesOf(*entry) : sizeof(entry);
    }
  }
  return bytes;
}

}  // namespace

TokenDelivery::TokenDelivery(const Options& options, EngineObserver& observer,
                             std::function<void(SequenceId)> stop_string_found)
    : options_(options),
      observer_(observer),
      stop_string_found_(std::move(stop_string_found)) {
  for (int i = 0; i < options_.threads; ++i) {
    Lane& lane = *lanes_.emplace_back(std::make_unique<Lane>());
    lane.thread = std::thread([this, &lane] {
      pthread_setname_np(pthread_self(), "sheaf-deliver");
      Run(lane);
    });
  }
}

TokenDelivery::~TokenDelivery() {
  Drain();
  for (const auto& lane : lanes_) {
    {
      absl::MutexLock lock(&lane->mutex);
      lane->closed = true;
    }
    lane->changed.SignalAll();
    lane->thread.join();
  }
}

void TokenDelivery::Add(const std::shared_ptr<OutputTeller>& to, Message message) {
  if (lanes_.empty()) {
    Entry entry{to, std::move(message)};
    ToldTokens told;
    Tell(entry, told);
    if (told.tokens > 0) observer_.OnTold(told);
    return;
  }
  Lane& lane = *lanes_[to->id().value() % lanes_.size()];
  ++lane.added_amount.messages;
  const size_t bytes = BytesOf(message);
  lane.added_amount.bytes += bytes;
  lane.light = lane.light && bytes == 0 && std::holds_alternative<NewToken>(message);
  lane.added.push_back({to, std::move(message)});
}

void TokenDelivery::Flush() {
  for (const auto& lane : lanes_) {
    if (lane->added.empty() || ToldHere(*lane)) continue;
    bool wake = false;
    {
      absl::MutexLock lock(&lane->mutex);
      if (lane->waiting.empty()) {
        lane->waiting.swap(lane->added);
      } else {
        std::move(lane->added.begin(), lane->added.end(), std::back_inserter(lane->waiting));
      }
      lane->behind.messages += lane->added_amount.messages;
      lane->behind.bytes += lane->added_amount.bytes;
      wake = std::exchange(lane->idle, false);
    }
    if (wake) lane->changed.SignalAll();
    lane->added.clear();
    lane->added_amount = {};
    lane->light = true;
  }
}

bool TokenDelivery::ToldHere(Lane& lane) {
  if (!lane.light || lane.added.size() > options_.told_here) return false;
  {
    absl::MutexLock lock(&lane.mutex);
    // It has told everything, and nothing comes to it but from this thread.
    if (!lane.idle || !lane.waiting.empty()) return false;
  }
  ToldTokens told;
  for (Entry& entry : lane.added) Tell(entry, told);
  if (told.tokens > 0) observer_.OnTold(told);
  lane.added.clear();
  lane.added_amount = {};
  return true;
}

bool TokenDelivery::TooFarBehind() {
  for (const auto& lane : lanes_) {
    absl::MutexLock lock(&lane->mutex);
    if (lane->behind.messages > options_.max_messages_behind ||
        lane->behind.bytes > options_.max_bytes_behind) {
      return true;
    }
  }
  return false;
}

void TokenDelivery::WaitUntilCaughtUp() {
  WaitUntil(options_.max_messages_behind / 2, options_.max_bytes_behind / 2);
}

void TokenDelivery::Drain() {
  Flush();
  WaitUntil(0, 0);
}

void TokenDelivery::WaitUntil(size_t messages, size_t bytes) {
  for (const auto& lane : lanes_) {
    absl::MutexLock lock(&lane->mutex);
    lane->watched = true;
    while (lane->behind.messages > messages || lane->behind.bytes > bytes) {
      lane->changed.Wait(&lane->mutex);
    }
    lane->watched = false;
  }
}

void TokenDelivery::Run(Lane& lane) {
  std::vector<Entry> batch;
  Amount done;
  for (;;) {
    {
      absl::MutexLock lock(&lane.mutex);
      lane.behind.messages -= done.messages;
      lane.behind.bytes -= done.bytes;
      if (lane.watched && done.messages > 0) lane.changed.SignalAll();
      while (lane.waiting.empty()) {
        if (lane.closed) return;
        lane.idle = true;
        lane.changed.Wait(&lane.mutex);
      }
      lane.idle = false;
      batch.swap(lane.waiting);
    }
    done = {batch.size(), 0};
    ToldTokens told;
    for (Entry& entry : batch) {
      done.bytes += BytesOf(entry.message);
      Tell(entry, told);
    }
    batch.clear();  // a sequence's last trace may go here, and not on the step thread
    if (told.tokens > 0) observer_.OnTold(told);
  }
}

void TokenDelivery::Tell(Entry& entry, ToldTokens& told) {
  OutputTeller& to = *entry.to;
  if (auto* token = std::get_if<NewToken>(&entry.message)) {
    const bool forced = token->forced;
    if (!to.Tell(std::move(*token), observer_)) return;
    ++told.tokens;
    told.forced += forced;
    if (to.ended()) stop_string_found_(to.id());
  } else if (auto* piece = std::get_if<PromptLogprobsPiece>(&entry.message)) {
    to.Tell(std::move(*piece));
  } else {
    to.Tell(std::get<Ending>(std::move(entry.message)), observer_);
  }
}

}  // namespace sheaf
