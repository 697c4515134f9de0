#include "tracing/trace_context.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_join.h"

namespace sheaf {
namespace {

constexpr size_t kVersion0Bytes = 55;
constexpr size_t kMaxMembers = 32;
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxValueBytes = 256;
constexpr size_t kLongMemberBytes = 128;

bool IsLowerAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// Upper case digits are none.
int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool ReadHex(std::string_view text, std::span<uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = DigitOf(text[2 * i]);
    const int low = DigitOf(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

bool IsZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

std::string_view WithoutBlanks(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

bool IsKey(std::string_view key) {
  return !key.empty() && key.size() <= kMaxKeyBytes && IsLowerAlnum(key.front()) &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return IsLowerAlnum(c) || std::string_view("_-*/@").find(c) != std::string_view::npos;
         });
}

// Blanks at its end were taken off with those around the member.
bool IsValue(std::string_view value) {
  return !value.empty() && value.size() <= kMaxValueBytes &&
         std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

size_t JoinedBytes(const std::vector<std::string_view>& members) {
  size_t bytes = members.empty() ? 0 : members.size() - 1;
  for (const std::string_view member : members) bytes += member.size();
  return bytes;
}

}  // namespace

std::string HexOf(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::optional<TraceContext> ParseTraceparent(std::string_view value) {
  if (value.size() < kVersion0Bytes) return std::nullopt;
  std::array<uint8_t, 1> version{}, flags{};
  TraceContext context;
  if (value[2] != '-' || value[35] != '-' || value[52] != '-' || !ReadHex(value, version) ||
      !ReadHex(value.substr(3), context.trace_id) || !ReadHex(value.substr(36), context.span_id) ||
      !ReadHex(value.substr(53), flags)) {
    return std::nullopt;
  }
  if (version[0] == 0xff) return std::nullopt;
  // Only a later version may say more.
  if (value.size() > kVersion0Bytes && (version[0] == 0 || value[kVersion0Bytes] != '-')) {
    return std::nullopt;
  }
  if (IsZero(context.trace_id) || IsZero(context.span_id)) return std::nullopt;
  context.flags = flags[0] & (TraceContext::kSampled | TraceContext::kRandom);
  return context;
}

std::string FormatTraceparent(const TraceContext& context) {
  const std::array<uint8_t, 1> flags = {context.flags};
  return "00-" + HexOf(context.trace_id) + "-" + HexOf(context.span_id) + "-" + HexOf(flags);
}

std::optional<std::string> ParseTracestate(std::string_view value) {
  std::vector<std::string_view> members, keys;
  while (!value.empty()) {
    const size_t comma = value.find(',');
    const std::string_view member = WithoutBlanks(value.substr(0, comma));
    value.remove_prefix(comma == std::string_view::npos ? value.size() : comma + 1);
    if (member.empty()) continue;
    const size_t equals = member.find('=');
    if (equals == std::string_view::npos || members.size() == kMaxMembers) return std::nullopt;
    const std::string_view key = member.substr(0, equals);
    if (!IsKey(key) || !IsValue(member.substr(equals + 1)) ||
        std::find(keys.begin(), keys.end(), key) != keys.end()) {
      return std::nullopt;
    }
    members.push_back(member);
    keys.push_back(key);
  }
  if (JoinedBytes(members) > TraceContext::kMaxStateBytes) {
    std::erase_if(members, [](std::string_view one) { return one.size() > kLongMemberBytes; });
  }
  while (JoinedBytes(members) > TraceContext::kMaxStateBytes) members.pop_back();
  return absl::StrJoin(members, ",", [](std::string* out, std::string_view member) {
    out->append(member.data(), member.size());
  });
}

std::optional<TraceContext> ReadTraceContext(std::span<const std::string_view> traceparents,
                                             std::span<const std::string_view> tracestates) {
  if (traceparents.size() != 1) return std::nullopt;
  std::optional<TraceContext> context = ParseTraceparent(WithoutBlanks(traceparents.front()));
  if (!context || tracestates.empty()) return context;
  std::string joined;
  for (const std::string_view state : tracestates) {
    if (!joined.empty()) joined += ',';
    joined += state;
  }
  context->trace_state = ParseTracestate(joined).value_or("");
  return context;
}

}  // namespace sheaf
