#pragma once
// NcclVersion: which NCCL a library is, and what it can do that older ones cannot.
//
// Source     the declarations in nccl.h from one release to the next. Several ranks on one GPU want
//            NCCL_MULTI_RANK_GPU_ENABLE=1 beside the version.
// Threads    pure.

#include <compare>
#include <string>

namespace sheaf {

struct NcclVersion {
  int major = 0;
  int minor = 0;
  int patch = 0;

  // As ncclGetVersion says it: 22703, and up to 2.8 four digits, 2804.
  static NcclVersion FromCode(int code);
  std::string Text() const;  // "2.27.3"

  friend auto operator<=>(const NcclVersion&, const NcclVersion&) = default;
};

// The oldest that is used: the first with ncclCommShrink, and older than any that was built for
// CUDA 13.
inline constexpr NcclVersion kOldestNccl{2, 27, 3};

struct NcclFeature {
  const char* name;    // for operators
  NcclVersion since;
  const char* symbol;  // that a library with it exports; nullptr: none tells
};

// What operators and links may ask for, oldest first.
inline constexpr NcclFeature kNcclFeatures[] = {
    {"abort", {2, 4, 2}, "ncclCommAbort"},
    {"shrink", {2, 27, 3}, "ncclCommShrink"},
    {"revoke", {2, 28, 7}, "ncclCommRevoke"},
    {"grow", {2, 29, 2}, "ncclCommGrow"},
    {"suspend", {2, 29, 7}, "ncclCommSuspend"},
    {"several ranks on one GPU", {2, 30, 3}, nullptr},
};

}  // namespace sheaf
