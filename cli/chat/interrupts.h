#pragma once
// Interrupts: Ctrl-C (SIGINT) as something to wait for, while a program goes on.
//
// Threads    Construct before any other thread starts: the signal mask is inherited. Then one
//            thread at a time, and a Watch's own.
// Ownership  The signal stays blocked when this is gone.

#include <functional>
#include <thread>

namespace sheaf {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  int fd() const { return fd_; }  // readable while an interrupt has come and was not taken
  bool Take();                    // whether there was one; does not wait

  // Calls `interrupted` (from a thread of its own, once) if an interrupt comes in its lifetime.
  class Watch {
   public:
    Watch(Interrupts& interrupts, std::function<void()> interrupted);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    int end_fd_ = -1;  // readable: the watch ends
    std::thread thread_;
  };

 private:
  int fd_ = -1;
};

}  // namespace sheaf
