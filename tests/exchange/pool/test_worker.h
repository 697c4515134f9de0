#pragma once
// TestWorker: the worker's end of links, as small as it can be: announces what it holds, runs
// experts, answers; and misbehaves when told to. One thread; a death leaves nothing behind.

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/check.h"
#include "base/byte_buffer.h"
#include "exchange/in_process/in_process_links.h"
#include "exchange/pool/pool_links.h"
#include "exchange/wire/combine_payload.h"
#include "exchange/wire/dispatch_payload.h"
#include "exchange/wire/holdings.h"
#include "tests/exchange/random_experts.h"

namespace sheaf {

inline constexpr InstanceId kTestRouter{99};  // whose links they take

class TestWorker {
 public:
  TestWorker(InProcessNetwork& network, WorkerId id, uint64_t model_digest,
             const RandomExperts& experts, Holdings holdings)
      : id_(id),
        instance_(InstanceId(NextInstance())),
        experts_(experts),
        holdings_(std::move(holdings)),
        model_(static_cast<uint32_t>(model_digest)) {
    holdings_.number = 1;
    secret_.fill(static_cast<uint8_t>(id.value() + 1));
    auto bell = Bell::Create();
    SHEAF_CHECK(bell.ok(), "a bell");
    bell_ = *std::move(bell);
    LinkListenerOptions options;
    options.self = {model_digest, instance_, secret_};
    auto listener = InProcessLinkMaker(network).Listen(
        options, *bell_,
        [this](std::unique_ptr<FrameLink> link, const Hello&) {
          absl::MutexLock lock(&mutex_);
          new_links_.push_back(std::move(link));
          bell_->Ring();
        });
    SHEAF_CHECK(listener.ok(), "a listener");
    listener_ = *std::move(listener);
    addresses_ = listener_->addresses();
    thread_ = std::thread([this] { Serve(); });
  }
  ~TestWorker() { Kill(); }

  WorkerEndpoint endpoint() const {
    return {id_, instance_, addresses_, LinkKeyFor(secret_, instance_, kTestRouter),
            "test worker " + std::to_string(id_.value())};
  }
  WorkerId id() const { return id_; }

  // The process dies: its links break.
  void Kill() {
    if (!thread_.joinable()) return;
    listener_.reset();
    stop_ = true;
    bell_->Ring();
    thread_.join();
  }
  void Announce(Holdings holdings) {
    absl::MutexLock lock(&mutex_);
    const uint64_t number = holdings_.number + 1;
    holdings_ = std::move(holdings);
    holdings_.number = number;
    bell_->Ring();
  }
  // Drops without a word: the table of routers is wrong until the next Announce.
  void DropSilently(Holdings holdings) {
    absl::MutexLock lock(&mutex_);
    holdings.number = holdings_.number;
    holdings_ = std::move(holdings);
  }
  // While silent it reads and computes but sends nothing; afterwards it sends what it kept.
  void SetSilent(bool silent) {
    silent_ = silent;
    bell_->Ring();
  }
  void SetLying(bool lying) { lying_ = lying; }   // one bit of every answer is wrong
  void SetFailing(bool failing) { failing_ = failing; }
  void SetGarbled(bool garbled) { garbled_ = garbled; }  // answers of another size

  int dispatches() const { return dispatches_; }
  uint64_t seen() const { return seen_; }  // holdings that a router has seen

 private:
  struct Line {
    std::unique_ptr<FrameLink> link;
    uint64_t announced = 0;
  };
  struct Kept {
    FrameLink* link;
    FrameHeader header;
    std::vector<uint8_t> payload;
  };

  static uint64_t NextInstance() {
    static std::atomic<uint64_t> next{1};
    return next++;
  }

  void Serve() {
    std::vector<Line> lines;
    while (!stop_) {
      const uint32_t rung = bell_->rings();
      Holdings holdings;
      {
        absl::MutexLock lock(&mutex_);
        for (auto& link : new_links_) lines.push_back({std::move(link), 0});
        new_links_.clear();
        holdings = holdings_;
      }
      if (!silent_) {
        for (Kept& kept : kept_) Transmit(*kept.link, kept.header, kept.payload);
        kept_.clear();
      }
      for (Line& line : lines) {
        if (line.announced == holdings.number) continue;
        line.announced = holdings.number;
        const std::string bytes = holdings.Encode();
        FrameHeader header;
        header.kind = FrameKind::kHoldings;
        header.element = FrameElement::kBitmap;
        header.sequence = holdings.number;
        header.model = model_;
        header.payload_bytes = bytes.size();
        Transmit(*line.link, header, {bytes.begin(), bytes.end()});
      }
      for (Line& line : lines) {
        for (;;) {
          auto next = line.link->Next();
          if (!next.ok()) {
            std::erase_if(kept_, [&](const Kept& k) { return k.link == line.link.get(); });
            line.link.reset();
            break;
          }
          if (!next->has_value()) break;
          Handle(*line.link, **next, holdings);
          line.link->Release();
        }
      }
      std::erase_if(lines, [](const Line& line) { return line.link == nullptr; });
      bell_->WaitPast(rung, std::chrono::steady_clock::now() + std::chrono::seconds(1));
    }
    kept_.clear();
    absl::MutexLock lock(&mutex_);
    new_links_.clear();
  }

  void Handle(FrameLink& link, const ArrivedFrame& frame, const Holdings& holdings) {
    if (frame.header.kind == FrameKind::kHoldingsSeen) {
      seen_ = frame.header.sequence;
      return;
    }
    ++dispatches_;
    DispatchView view;
    SHEAF_CHECK(DecodeDispatch(frame.header, frame.payload, view).ok(), "a good dispatch");
    std::vector<int32_t> missing;
    for (const ExpertRun& run : view.experts) {
      if (!holdings.Has(frame.header.layer, ExpertId(run.expert))) missing.push_back(run.expert);
    }
    if (failing_) {
      const std::string text = "worker " + std::to_string(id_.value()) + " fails as told";
      Answer(link, ErrorHeaderFor(frame.header, text.size()), {text.begin(), text.end()});
      return;
    }
    if (!missing.empty()) {
      std::vector<uint8_t> bytes(missing.size() * sizeof(int32_t));
      std::memcpy(bytes.data(), missing.data(), bytes.size());
      Answer(link, NotHeldHeaderFor(frame.header, static_cast<uint32_t>(missing.size())), bytes);
      return;
    }
    FrameHeader header = CombineHeaderFor(frame.header);
    std::vector<uint8_t> payload = Compute(header, view);
    if (lying_) payload[1] ^= 1;
    if (garbled_) {
      --header.pairs;
      header.payload_bytes = CombineBytes(header.element, header.pairs, header.hidden);
      payload.resize(header.payload_bytes);
    }
    Answer(link, header, std::move(payload));
  }

  std::vector<uint8_t> Compute(const FrameHeader& header, DispatchView& view) {
    const size_t hidden = header.hidden;
    std::vector<float> out(size_t(header.pairs) * hidden);
    const size_t sums_a_row = size_t(view.x.groups()) * kernels::kSumsPerGroup;
    std::vector<int32_t> sums(sums_a_row * size_t(view.x.num_rows));
    for (int row = 0; row < view.x.num_rows; ++row)
      kernels::SumRow(view.x.row_planes(row), view.x.k, sums.data() + sums_a_row * size_t(row));
    view.x.sums = sums.data();
    std::vector<kernels::ExpertJob> jobs;
    size_t pair = 0;
    for (const ExpertRun& run : view.experts) {
      jobs.push_back({experts_.weights(header.layer, ExpertId(run.expert)),
                      view.rows.subspan(pair, size_t(run.num_rows)), out.data() + pair * hidden});
      pair += size_t(run.num_rows);
    }
    kernels::RunExperts(pool_, view.x, jobs, scratch_);
    std::vector<uint8_t> payload(header.payload_bytes);
    if (header.element == FrameElement::kFloat32) {
      std::memcpy(payload.data(), out.data(), payload.size());
    } else {
      ByteBuffer aligned;
      EncodeInt16Combine(pool_, out.data(), header.pairs, hidden, aligned.Resize(payload.size()));
      std::memcpy(payload.data(), aligned.data(), payload.size());
    }
    return payload;
  }

  void Answer(FrameLink& link, const FrameHeader& header, std::vector<uint8_t> payload) {
    if (silent_) {
      kept_.push_back({&link, header, std::move(payload)});
      return;
    }
    Transmit(link, header, payload);
  }

  void Transmit(FrameLink& link, const FrameHeader& header, const std::vector<uint8_t>& payload) {
    const auto memory = link.Reserve(payload.size());
    if (!memory.ok()) return;
    std::copy(payload.begin(), payload.end(), memory->begin());
    link.Send(header).IgnoreError();
  }

  const WorkerId id_;
  const InstanceId instance_;
  const RandomExperts& experts_;
  LinkSecret secret_{};
  std::vector<std::string> addresses_;
  std::unique_ptr<Bell> bell_;
  absl::Mutex mutex_;
  Holdings holdings_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<FrameLink>> new_links_ ABSL_GUARDED_BY(mutex_);
  const uint32_t model_;
  std::vector<Kept> kept_;
  ThreadPool pool_{1};
  kernels::ExpertScratch scratch_;
  std::atomic<bool> stop_{false}, silent_{false}, lying_{false}, failing_{false}, garbled_{false};
  std::atomic<int> dispatches_{0};
  std::atomic<uint64_t> seen_{0};
  std::unique_ptr<LinkListener> listener_;
  std::thread thread_;
};

}  // namespace sheaf
