#pragma once
// Refuses a config.json that asks for arithmetic that is not implemented: a key that other
// architectures have and that would change every logit must not be passed over.
//
// Threads    pure.
// Errors     kUnimplemented: file, key, wanted, got.

#include "absl/status/status.h"
#include "model/config_json.h"

namespace sheaf {

absl::Status RefuseUnimplementedKeys(const JsonObject& object);

}  // namespace sheaf
