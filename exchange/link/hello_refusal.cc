#include "exchange/link/hello_refusal.h"

#include "absl/strings/str_format.h"

namespace sheaf {

const char* NameOf(HelloRefusal cause) {
  switch (cause) {
    case HelloRefusal::kMalformed:
      return "malformed";
    case HelloRefusal::kUnfinished:
      return "unfinished";
    case HelloRefusal::kVersion:
      return "version";
    case HelloRefusal::kModel:
      return "model";
    case HelloRefusal::kInstance:
      return "instance";
    case HelloRefusal::kIntegrity:
      return "integrity";
    case HelloRefusal::kKey:
      return "key";
    case HelloRefusal::kReplay:
      return "replay";
    case HelloRefusal::kBusy:
      return "busy";
    case HelloRefusal::kActivations:
      return "activations";
  }
  return "";
}

HelloRefusal RefusalOf(HelloVerdict verdict) {
  switch (verdict) {
    case HelloVerdict::kOtherVersion:
      return HelloRefusal::kVersion;
    case HelloVerdict::kOtherModel:
      return HelloRefusal::kModel;
    case HelloVerdict::kOtherInstance:
      return HelloRefusal::kInstance;
    case HelloVerdict::kOtherIntegrity:
      return HelloRefusal::kIntegrity;
    case HelloVerdict::kWrongKey:
      return HelloRefusal::kKey;
    case HelloVerdict::kReplayed:
      return HelloRefusal::kReplay;
    case HelloVerdict::kBusy:
      return HelloRefusal::kBusy;
    case HelloVerdict::kOtherActivations:
      return HelloRefusal::kActivations;
    case HelloVerdict::kWelcome:
    case HelloVerdict::kProve:
      break;
  }
  return HelloRefusal::kMalformed;
}

std::string WhyRefused(HelloVerdict verdict, const Hello& hello, FrameIntegrity own) {
  const auto of = [&](const char* why) { return absl::StrFormat("%s: %s", Describe(hello), why); };
  switch (verdict) {
    case HelloVerdict::kOtherVersion:
      return "it speaks another protocol version";
    case HelloVerdict::kOtherModel:
      return of("it wants another checkpoint");
    case HelloVerdict::kOtherInstance:
      return of("it means another process");
    case HelloVerdict::kOtherIntegrity:
      return of("--exchange-integrity: ") +
             absl::StrFormat("the router has %s, this worker has %s", NameOf(hello.integrity),
                             NameOf(own));
    case HelloVerdict::kWrongKey:
      return of("it does not know the key of this link");
    case HelloVerdict::kReplayed:
      return of("the hello of a link that was made before, replayed");
    case HelloVerdict::kBusy:
      return of("there is no room for another link");
    case HelloVerdict::kOtherActivations:
      return of("--activation-bits: the router has 8, this worker's device takes 16 alone");
    case HelloVerdict::kWelcome:
    case HelloVerdict::kProve:
      break;
  }
  return of("");
}

}  // namespace sheaf
