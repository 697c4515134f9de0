#pragma once
// Answer: one answer of a chat, put together from its deltas.
//
// Threads: one at a time. Cost: O(bytes of the deltas).

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "sheaf/v1/inference.pb.h"

namespace sheaf {

class Answer {
 public:
  void Add(const v1::TokenDelta& delta);
  void AddText(std::string_view text) { content_ += text; }

  // Whether there is something to go on from: text or a complete call. Thoughts alone are none.
  bool has_content() const;
  // As a message of the history. Calls that are not complete are left out: their arguments are no
  // JSON.
  v1::ChatMessage Message() const;

 private:
  struct Call {
    v1::ToolCall call;
    bool complete = false;
  };

  std::string content_, reasoning_;
  std::map<uint32_t, Call> calls_;  // by index
};

}  // namespace sheaf
