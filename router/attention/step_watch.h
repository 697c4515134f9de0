#pragma once
// StepWatch: how a forward pass learns that some of its sequences are over (cancelled, too late,
// the server stops) while it computes. The decoder looks between stages and inside long loops, and
// lets the rows of those sequences go at the next half of a layer; the others' results stay the
// same to the bit, because a row's result depends on its sequence alone.
//
// Threads    the step thread. Look also from between the items of the pool's loops, while other
//            threads compute: what they read of a sequence stays as it is until OnDropped.
// Cost       Look is called several times a layer: a clock read when nothing has happened.

namespace sheaf {

class StepWatch {
 public:
  virtual ~StepWatch() = default;

  // Finds out, and lets the clients of what is over know.
  virtual void Look() = 0;

  // As of the last Look. A sequence, by its index in StepBatch::sequences, that is over stays so.
  virtual int num_over() const = 0;
  virtual bool IsOver(int sequence) const = 0;

  // Nothing computes with the tokens and blocks of those that are over any more.
  virtual void OnDropped() = 0;
};

}  // namespace sheaf
