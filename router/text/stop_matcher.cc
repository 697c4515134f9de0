#include "router/text/stop_matcher.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace sheaf {

absl::StatusOr<StopStrings> StopStrings::Create(std::span<const std::string> strings) {
  StopStrings result;
  size_t total_bytes = 0;
  for (size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].empty()) {
      return absl::InvalidArgumentError(absl::StrFormat("stop[%d] is an empty string", i));
    }
    total_bytes += strings[i].size();
    if (total_bytes > kMaxTotalBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the stop strings have more than %d bytes in all", kMaxTotalBytes));
    }
    result.Insert(strings[i], static_cast<int32_t>(i));
  }
  result.Link();
  return result;
}

void StopStrings::Insert(std::string_view text, int32_t index) {
  int32_t node = 0;
  for (const char c : text) {
    const uint8_t byte = static_cast<uint8_t>(c);
    int32_t child = Child(node, byte);
    if (child == 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.byte = byte,
                        .next_sibling = nodes_[node].first_child,
                        .length = nodes_[node].length + 1});
      nodes_[node].first_child = child;
    }
    node = child;
  }
  if (nodes_[node].match < 0) {
    nodes_[node].match = index;
    nodes_[node].match_length = nodes_[node].length;
  }
}

void StopStrings::Link() {
  // In order of length, so that a node's fail target, which is shorter, is complete before it.
  std::vector<int32_t> order = {0};
  for (size_t i = 0; i < order.size(); ++i) {
    const int32_t parent = order[i];
    for (int32_t child = nodes_[parent].first_child; child != 0;
         child = nodes_[child].next_sibling) {
      Node& node = nodes_[child];
      if (parent != 0) node.fail = Next(nodes_[parent].fail, node.byte);
      if (node.match < 0) {
        node.match = nodes_[node.fail].match;
        node.match_length = nodes_[node.fail].match_length;
      }
      order.push_back(child);
    }
  }
}

int32_t StopStrings::Child(int32_t node, uint8_t byte) const {
  for (int32_t child = nodes_[node].first_child; child != 0; child = nodes_[child].next_sibling) {
    if (nodes_[child].byte == byte) return child;
  }
  return 0;
}

int32_t StopStrings::Next(int32_t node, uint8_t byte) const {
  while (true) {
    const int32_t child = Child(node, byte);
    if (child != 0 || node == 0) return child;
    node = nodes_[node].fail;
  }
}

StopMatcher::StopMatcher(std::shared_ptr<const StopStrings> strings, bool include_stop)
    : strings_(std::move(strings)), include_stop_(include_stop) {}

StopMatcher::Result StopMatcher::Push(std::string_view piece, bool may_stop) {
  Result result;
  if (stopped_) return result;
  result.text = std::move(held_);
  held_.clear();
  for (const char c : piece) {
    result.text.push_back(c);
    node_ = strings_->Next(node_, static_cast<uint8_t>(c));
    const StopStrings::Node& node = strings_->nodes_[node_];
    if (may_stop && node.match >= 0) {
      stopped_ = true;
      result.stop_index = node.match;
      if (!include_stop_) result.text.resize(result.text.size() - node.match_length);
      return result;
    }
  }
  const size_t shown_bytes = result.text.size() - strings_->nodes_[node_].length;
  held_ = result.text.substr(shown_bytes);
  result.text.resize(shown_bytes);
  return result;
}

std::string StopMatcher::Finish() {
  node_ = 0;
  return std::exchange(held_, {});
}

}  // namespace sheaf
