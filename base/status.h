#pragma once
// Early-return macros for absl::Status and absl::StatusOr, and nothing else.
//
// Errors that the network, a peer, a file, a user or a full queue can cause travel as absl::Status;
// the message names the thing (file, tensor, layer, worker, wanted, got). Build messages with
// absl::StrFormat, which accepts std::string_view (Debian's absl::StrCat does not).

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define SHEAF_STATUS_JOIN_INNER(a, b) a##b
#define SHEAF_STATUS_JOIN(a, b) SHEAF_STATUS_JOIN_INNER(a, b)

// Returns from the function when `expr` is not OK.
#define SHEAF_RETURN_IF_ERROR(expr)                               \
  do {                                                            \
    if (absl::Status sheaf_status = (expr); !sheaf_status.ok()) { \
      return sheaf_status;                                        \
    }                                                             \
  } while (false)

// `lhs = value of expr`, or returns its error. `lhs` may declare a variable.
#define SHEAF_ASSIGN_OR_RETURN(lhs, expr) \
  SHEAF_ASSIGN_OR_RETURN_INNER(SHEAF_STATUS_JOIN(sheaf_or_, __LINE__), lhs, expr)
#define SHEAF_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = *std::move(tmp)
