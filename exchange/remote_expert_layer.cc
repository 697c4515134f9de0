#include "exchange/remote_expert_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/dispatch_payload.h"
#include "exchange/local_expert_layer.h"
#include "exchange/ordered_sum.h"

namespace sheaf {

RemoteExpertLayer::RemoteExpertLayer(EpochSource& source, ThreadPool& pool,
                                     const RemoteExpertLayerOptions& options)
    : source_(source), pool_(pool), options_(options) {}

absl::Status RemoteExpertLayer::Begin(const RoutedBatch& batch) {
  // Its answers would land in buffers that are about to be used again.
  if (epoch_.link != nullptr)
    return Fail(absl::InternalError("a batch was begun before the last one was finished"));
  batch_ = batch;
  epoch_ = {};
  failed_ = absl::OkStatus();
  absl::StatusOr<OpenEpoch> current = source_.Current();
  if (!current.ok()) {
    failed_ = current.status();
    return failed_;
  }
  epoch_ = *std::move(current);
  const absl::Status posted = PostChunk(0);
  if (!posted.ok() && failed_.ok()) {  // not planned: the link is not to blame
    failed_ = posted;
    epoch_ = {};
  }
  return failed_;
}

absl::Status RemoteExpertLayer::Finish(float* sum) {
  if (!failed_.ok()) return failed_;
  if (epoch_.link == nullptr) return absl::FailedPreconditionError("Finish without Begin");
  absl::Status status = FinishChunk(sum);
  while (status.ok() && first_token_ + num_tokens_ < batch_.x.num_rows) {
    status = PostChunk(first_token_ + num_tokens_);
    if (status.ok()) status = FinishChunk(sum + size_t(first_token_) * size_t(batch_.x.k));
  }
  epoch_ = {};
  return status;
}

absl::Status RemoteExpertLayer::PostChunk(int first_token) {
  const TimePoint start = std::chrono::steady_clock::now();
  first_token_ = first_token;
  num_tokens_ = std::min(options_.chunk_tokens, batch_.x.num_rows - first_token);
  const size_t first_slot = size_t(first_token) * size_t(batch_.top_k);
  const Routes routes{batch_.layer, num_tokens_, batch_.top_k, batch_.expert_ids + first_slot};
  SHEAF_RETURN_IF_ERROR(PlanDispatch(routes, *epoch_.placement, {}, plan_));

  const auto workers = plan_.workers();
  const kernels::QuantizedRows rows = SliceRows(batch_.x, first_token, num_tokens_);
  if (dispatches_.size() < workers.size()) {
    dispatches_.resize(workers.size());
    combines_.resize(workers.size());
  }
  exchanges_.clear();
  vectors_.resize(size_t(num_tokens_) * size_t(batch_.top_k));
  const size_t vector_bytes = sizeof(float) * size_t(batch_.x.k);
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerPlan& work = workers[i];
    Exchange& exchange = exchanges_.emplace_back();
    exchange.worker = work.worker;
    exchange.dispatch.epoch = epoch_.link->epoch();
    exchange.dispatch.step = batch_.step;
    exchange.dispatch.layer = batch_.layer;
    exchange.dispatch.chunk = static_cast<uint32_t>(first_token / options_.chunk_tokens);
    dispatches_[i].Resize(DispatchBytes(work, batch_.x.k));
    EncodeDispatch(pool_, work, rows, exchange.dispatch, dispatches_[i].data());
    combines_[i].Resize(vector_bytes * work.rows.size());
    exchange.payload = dispatches_[i].bytes();
    exchange.combine = combines_[i].bytes();
    for (size_t pair = 0; pair < work.slots.size(); ++pair) {
      vectors_[size_t(work.slots[pair])] =
          reinterpret_cast<const float*>(combines_[i].data() + pair * vector_bytes);
    }

    auto at = std::find_if(totals_.workers.begin(), totals_.workers.end(),
                           [&](const auto& entry) { return entry.worker >= work.worker; });
    if (at == totals_.workers.end() || at->worker != work.worker) {
      at = totals_.workers.insert(at, ExchangeTotals::Worker{work.worker});
    }
    at->sent_bytes += static_cast<int64_t>(kFrameHeaderBytes + exchange.payload.size());
    at->received_bytes += static_cast<int64_t>(kFrameHeaderBytes + exchange.combine.size());
    at->pairs += work.num_pairs();
  }
  const absl::Status posted = epoch_.link->Post(exchanges_);
  totals_.dispatch += std::chrono::steady_clock::now() - start;
  return posted.ok() ? posted : Fail(posted);
}

absl::Status RemoteExpertLayer::FinishChunk(float* sum) {
  const TimePoint start = std::chrono::steady_clock::now();
  pool_.Park();
  const absl::Status answered =
      epoch_.link->Wait(start + options_.base_timeout + options_.timeout_per_token * num_tokens_);
  if (!answered.ok()) return Fail(answered);
  SumInExpertOrder(pool_, num_tokens_, batch_.top_k, batch_.x.k,
                   batch_.weights + size_t(first_token_) * size_t(batch_.top_k), vectors_.data(),
                   sum);
  totals_.combine += std::chrono::steady_clock::now() - start;
  return absl::OkStatus();
}

absl::Status RemoteExpertLayer::Fail(absl::Status status) {
  LinkFault fault = epoch_.link->fault();
  if (fault.status.ok()) fault.status = status;
  const Epoch epoch = epoch_.link->epoch();
  // From here on no late answer can write into the combine buffers.
  epoch_.link->Close();
  epoch_ = {};
  // A silent worker is the cluster's trouble, not the client's deadline.
  const absl::StatusCode code =
      absl::IsDeadlineExceeded(status) ? absl::StatusCode::kUnavailable : status.code();
  failed_ = absl::Status(
      code, absl::StrFormat("%s (layer %d, step %d, epoch %d)", std::string(status.message()),
                            batch_.layer.value(), batch_.step.value(), epoch.value()));
  source_.OnFault(epoch, fault);
  return failed_;
}

ExchangeTotals RemoteExpertLayer::TakeTotals() { return std::exchange(totals_, {}); }

}  // namespace sheaf
