#pragma once
// WriteTurns: what gRPC may be told next of one streaming call of a server. gRPC aborts the process
// for two writes at once, and for a write after Finish; it wants exactly one Finish, however the
// call ends, and calls back (OnWriteDone, OnCancel, OnDone) on any thread, even from inside.
//
//              Next: kWrite                    Written
//     [idle] ----------------> [writing] -----------------> [idle]
//        |
//        | Next: kFinish (never while writing)
//        v
//    [finished]   nothing follows but OnDone
//
// How a reactor uses it: every event (a message to send, a write's end, a cancel, a deadline) only
// notes under the reactor's lock what it means; then one function asks Next under the lock,
// releases it, and does what it says. OnDone may come only after that one Finish, so until then the
// reactor lives and whoever was told kWrite may still be on the way to StartWrite.
//
// Threads: one at a time (the reactor's lock).

namespace sheaf {

class WriteTurns {
 public:
  enum class Turn { kNone, kWrite, kFinish };

  // `message`: one waits to be written. `end`: the call ends after all that waits.
  Turn Next(bool message, bool end) {
    if (writing_ || finished_) return Turn::kNone;
    if (message) {
      writing_ = true;
      return Turn::kWrite;
    }
    if (!end) return Turn::kNone;
    finished_ = true;
    return Turn::kFinish;
  }
  // From OnWriteDone, whether or not the write worked.
  void Written() { writing_ = false; }

  bool writing() const { return writing_; }
  // The call's context may not be touched any more.
  bool finished() const { return finished_; }

 private:
  bool writing_ = false;
  bool finished_ = false;
};

}  // namespace sheaf
