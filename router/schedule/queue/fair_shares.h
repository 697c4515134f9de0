#pragma once
// FairShares: whose turn it is among members that are to get equal shares of what is served.
//
// Every member has a counter of what it was served (tokens). Of those that wait the one with the
// smallest counter is next; then the one that runs least, then the one that came first.
//
// Level      where a member begins: the smallest counter of those that wait; while nobody waits,
//            the largest of those that are served, since what nobody else wanted is held against
//            nobody. It never falls. Who begins to wait with less than the level is lifted to it,
//            so idling gives no credit; who has more (it was served a lot while others waited)
//            keeps its debt.
// Ownership  members belong to the caller and outlive their waiting.
// Threads    none of its own: the caller's lock.
// Cost       O(log members) an operation, next() O(1); a Preview O(log picks) a pick.

#include <cstdint>
#include <queue>
#include <set>
#include <vector>

namespace sheaf {

class FairShares {
 public:
  struct Member {
    int64_t served = 0;    // tokens; changed by Charge alone
    int running = 0;       // sequences; changed by SetRunning alone
    uint64_t arrival = 0;  // smaller: came earlier; unique, fixed
    bool waits = false;
  };

  void BeginWaiting(Member& member);
  void EndWaiting(Member& member);
  // Negative: gives back.
  void Charge(Member& member, int64_t tokens);
  void SetRunning(Member& member, int running);

  Member* next() const { return waiting_.empty() ? nullptr : *waiting_.begin(); }
  int64_t level() const { return level_; }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }

 private:
  struct Earlier {
    bool operator()(const Member* a, const Member* b) const;
  };
  using Waiting = std::set<Member*, Earlier>;

 public:
  const Waiting& waiting() const { return waiting_; }

  // What next() would say turn after turn, without changing anything. The shares must not change
  // meanwhile.
  class Preview {
   public:
    explicit Preview(const FairShares& shares)
        : untouched_(shares.waiting_.begin()), end_(shares.waiting_.end()) {}
    // Null when nobody waits.
    Member* next() const;
    // The next one's turn: it is charged, and waits on or not.
    void Take(int64_t tokens, bool still_waits);

   private:
    struct Touched {
      Member as_if;
      Member* member;
    };
    struct Later {
      bool operator()(const Touched& a, const Touched& b) const {
        return Earlier()(&b.as_if, &a.as_if);
      }
    };
    bool TouchedIsNext() const;

    Waiting::const_iterator untouched_, end_;
    std::priority_queue<Touched, std::vector<Touched>, Later> touched_;
  };

 private:
  // Runs `change` on the member's place in the order.
  template <typename Change>
  void Reorder(Member& member, const Change& change);
  void RaiseLevel(const Member& changed);

  Waiting waiting_;
  int64_t level_ = 0;
};

}  // namespace sheaf
