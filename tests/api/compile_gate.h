#pragma once
// CompileGate: grammars that compile for as long as a test wants, through FakeTextCodec::on_compile.
//
// Threads    any. Waits end after ten seconds. Open() comes before the pool ends, or it waits too.

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "tests/fakes/fake_text_codec.h"

namespace sheaf {

class CompileGate {
 public:
  explicit CompileGate(FakeTextCodec& codec) {
    codec.on_compile = [this](const GrammarSpec&) {
      std::unique_lock lock(mutex_);
      ++begun_;
      changed_.notify_all();
      changed_.wait_for(lock, kPatience, [this] { return open_; });
    };
  }
  ~CompileGate() { Open(); }
  CompileGate(const CompileGate&) = delete;

  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // False when fewer compilations have begun after ten seconds.
  bool WaitForBegun(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return begun_ >= count; });
  }
  int begun() {
    std::lock_guard lock(mutex_);
    return begun_;
  }

 private:
  static constexpr std::chrono::seconds kPatience{10};

  std::mutex mutex_;
  std::condition_variable changed_;
  int begun_ = 0;      // guarded by mutex_
  bool open_ = false;  // guarded by mutex_
};

}  // namespace sheaf
