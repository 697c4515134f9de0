#pragma once
// A dispute: an expert of a layer whose answers from two workers differ, and who is wrong. Pure;
// rare, so it copies.
//
// What at least two of the workers say is right; else what the reference says.
//
// Threads    one at a time.

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace sheaf {

// Rows of one expert as a worker gave them, [rows][hidden].
struct ExpertAnswer {
  WorkerId worker;
  std::vector<float> rows;
};

struct Dispute {
  ExpertId expert;
  std::vector<int32_t> slots;         // of the batch, in the order of the rows
  std::vector<ExpertAnswer> answers;  // two or more; the first is in use
};

struct Judgement {
  bool decided = false;
  std::vector<float> right;      // rows
  std::vector<WorkerId> wrong;
};

bool SameBits(std::span<const float> a, std::span<const float> b);

// By majority; undecided when all differ.
Judgement JudgeByMajority(const Dispute& dispute);
// By what is right.
Judgement JudgeByReference(const Dispute& dispute, std::vector<float> right);

}  // namespace sheaf
