#pragma once
// Why a worker took a connection for no link, for its log and its counters. Threads: pure.

#include <cstdint>
#include <string>

#include "exchange/link/hello.h"

namespace sheaf {

enum class HelloRefusal : uint8_t {
  kMalformed,   // no hello at all
  kUnfinished,  // too late, cut short, or given way to newer ones
  kVersion,
  kModel,
  kInstance,     // it means another process
  kIntegrity,    // the sides' --exchange-integrity differ
  kKey,          // its proof is wrong
  kReplay,       // a hello of a link that was made already
  kBusy,         // too many links
  kActivations,  // the router has --activation-bits 8, this worker's device takes 16 alone
};
inline constexpr int kHelloRefusals = 10;
const char* NameOf(HelloRefusal cause);  // as the metric's label

struct RefusedHello {
  HelloRefusal cause = HelloRefusal::kMalformed;
  std::string peer;  // its address
  std::string why;
};

HelloRefusal RefusalOf(HelloVerdict verdict);  // not of kWelcome and kProve
// A worker's words on what it answered a hello with; `own`: its integrity.
std::string WhyRefused(HelloVerdict verdict, const Hello& hello, FrameIntegrity own);

}  // namespace sheaf
