#pragma once
// CompileGate: grammars that compile for as long as a test wants, through
// FakeTextCodec::on_compile.
//
// Threads    any. Waits end after ten seconds. Open() comes before the pool ends, or it waits too.

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tests/fakes/fake_text_codec.h"

namespace sheaf {

class CompileGate {
 public:
  explicit CompileGate(FakeTextCodec& codec) {
    codec.on_compile = [this](const GrammarSpec&) {
      absl::MutexLock lock(&mutex_);
      ++begun_;
      mutex_.AwaitWithTimeout(absl::Condition(&open_), kPatience);
    };
  }
  ~CompileGate() { Open(); }
  CompileGate(const CompileGate&) = delete;

  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }
  // False when fewer compilations have begun after ten seconds.
  bool WaitForBegun(int count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return begun_ >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience);
  }
  int begun() {
    absl::MutexLock lock(&mutex_);
    return begun_;
  }

 private:
  static constexpr absl::Duration kPatience = absl::Seconds(10);

  absl::Mutex mutex_;
  int begun_ ABSL_GUARDED_BY(mutex_) = 0;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sheaf
