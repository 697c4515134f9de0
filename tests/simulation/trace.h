#pragma once
// Trace: what happened, as a hash that two runs of one seed share, and as lines when wanted.

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/clock.h"

namespace sheaf::simulation {

class Trace {
 public:
  explicit Trace(bool print) : print_(print) {}

  // `what` is a literal.
  void Add(TimePoint now, const char* what, std::initializer_list<uint64_t> numbers = {}) {
    Eat(static_cast<uint64_t>(now.time_since_epoch().count()));
    for (const char* c = what; *c != 0; ++c) Eat(static_cast<uint64_t>(*c));
    for (const uint64_t number : numbers) Eat(number);
    if (!print_) return;
    PrintTime(now);
    std::fputs(what, stdout);
    for (const uint64_t number : numbers) {
      std::printf(number < 1'000'000'000 ? " %llu" : " %llx",
                  static_cast<unsigned long long>(number));
    }
    std::putchar('\n');
  }
  // For people; not part of the hash.
  void Say(TimePoint now, const std::string& text) {
    if (!print_) return;
    PrintTime(now);
    std::puts(text.c_str());
  }
  bool prints() const { return print_; }
  uint64_t hash() const { return hash_; }

 private:
  void Eat(uint64_t number) { hash_ = (hash_ ^ number) * 0x100000001b3 + (hash_ >> 47); }
  static void PrintTime(TimePoint now) {
    using Milliseconds = std::chrono::duration<double, std::milli>;
    std::printf("%12.3f ms  ", Milliseconds(now.time_since_epoch()).count() - 3'600'000.0);
  }

  bool print_;
  uint64_t hash_ = 0xcbf29ce484222325;
};

}  // namespace sheaf::simulation
