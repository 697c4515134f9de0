#include "exchange/wire/frame.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {
namespace {

// Shifts, not memcpy: the same bytes on a big-endian host. Compilers turn them into one move.
template <typename T>
void Put(FrameHeaderBytes& bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

template <typename T>
T Get(std::span<const uint8_t> bytes, size_t at) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<T>(static_cast<T>(bytes[at + i]) << (8 * i));
  return value;
}

template <typename W, typename G>
absl::Status Wrong(const char* field, const W& wanted, const G& got) {
  return absl::InvalidArgumentError(
      absl::StrCat("frame header: ", field, ": wanted ", wanted, ", got ", got));
}

const char* NameOf(FrameKind kind) {
  switch (kind) {
    case FrameKind::kDispatch:
      return "dispatch";
    case FrameKind::kCombine:
      return "combine";
    case FrameKind::kError:
      return "error";
    case FrameKind::kNotHeld:
      return "not held";
    case FrameKind::kHoldings:
      return "holdings";
    case FrameKind::kHoldingsSeen:
      return "holdings seen";
    case FrameKind::kStepPlan:
      return "step plan";
    case FrameKind::kPart:
      return "part";
    case FrameKind::kStepOver:
      return "step over";
  }
  return "unknown";
}

bool IsVectorElement(uint8_t element) {
  return element == static_cast<uint8_t>(FrameElement::kInt16Groups) ||
         element == static_cast<uint8_t>(FrameElement::kFloat32);
}

bool IsQuantizedElement(uint8_t element) {
  return element == static_cast<uint8_t>(FrameElement::kInt16Groups) ||
         element == static_cast<uint8_t>(FrameElement::kInt8Groups);
}

// The one element of a kind; of a combine and of a dispatch there are two.
FrameElement ElementOf(FrameKind kind) {
  switch (kind) {
    case FrameKind::kDispatch:
      return FrameElement::kInt16Groups;
    case FrameKind::kCombine:
      return FrameElement::kFloat32;
    case FrameKind::kError:
      return FrameElement::kText;
    case FrameKind::kNotHeld:
      return FrameElement::kExpertIds;
    case FrameKind::kHoldings:
      return FrameElement::kBitmap;
    case FrameKind::kStepOver:
      return FrameElement::kText;
    case FrameKind::kHoldingsSeen:
    case FrameKind::kStepPlan:
    case FrameKind::kPart:
      return FrameElement::kNone;
  }
  return FrameElement::kNone;
}

constexpr uint64_t kMaxHoldingsBytes =
    16 + (uint64_t{kMaxFrameLayer} * kMaxFrameExperts + 7) / 8;

absl::Status CheckPayloadBytes(const FrameHeader& header) {
  const uint64_t got = header.payload_bytes;
  switch (header.kind) {
    case FrameKind::kDispatch:  // exchange/wire/dispatch_payload.h knows the exact size
    case FrameKind::kStepPlan:
    case FrameKind::kPart:
      if (got > kMaxFramePayloadBytes)
        return Wrong("payload_bytes", absl::StrCat("at most ", kMaxFramePayloadBytes), got);
      break;
    case FrameKind::kCombine: {
      const uint64_t wanted = CombineBytes(header.element, header.pairs, header.hidden);
      if (got != wanted) return Wrong("payload_bytes", wanted, got);
      if (got > kMaxFramePayloadBytes)
        return Wrong("payload_bytes", absl::StrCat("at most ", kMaxFramePayloadBytes), got);
      break;
    }
    case FrameKind::kError:
    case FrameKind::kStepOver:
      if (got > kMaxErrorTextBytes)
        return Wrong("payload_bytes", absl::StrCat("at most ", kMaxErrorTextBytes), got);
      break;
    case FrameKind::kNotHeld: {
      const uint64_t wanted = uint64_t{header.experts} * sizeof(int32_t);
      if (got != wanted) return Wrong("payload_bytes", wanted, got);
      break;
    }
    case FrameKind::kHoldings:
      if (got > kMaxHoldingsBytes)
        return Wrong("payload_bytes", absl::StrCat("at most ", kMaxHoldingsBytes), got);
      break;
    case FrameKind::kHoldingsSeen:
      if (got != 0) return Wrong("payload_bytes", 0, got);
      break;
  }
  return absl::OkStatus();
}

}  // namespace

FrameHeaderBytes EncodeFrameHeader(const FrameHeader& header) {
  FrameHeaderBytes bytes{};
  Put<uint32_t>(bytes, 0, kFrameMagic);
  Put<uint16_t>(bytes, 4, kFrameVersion);
  bytes[6] = static_cast<uint8_t>(header.kind);
  bytes[7] = static_cast<uint8_t>(header.element);
  Put<uint64_t>(bytes, 8, header.link.value());
  Put<uint64_t>(bytes, 16, header.sequence);
  Put<uint64_t>(bytes, 24, header.step.value());
  Put<uint32_t>(bytes, 32, static_cast<uint32_t>(header.layer.value()));
  Put<uint32_t>(bytes, 36, header.model);
  Put<uint32_t>(bytes, 40, header.hidden);
  Put<uint32_t>(bytes, 44, header.tokens);
  Put<uint32_t>(bytes, 48, header.pairs);
  Put<uint16_t>(bytes, 52, static_cast<uint16_t>(header.experts));
  bytes[54] = static_cast<uint8_t>(header.answer);
  Put<uint64_t>(bytes, 56, header.payload_bytes);
  return bytes;
}

absl::StatusOr<FrameHeader> DecodeFrameHeader(std::span<const uint8_t> bytes) {
  if (bytes.size() != kFrameHeaderBytes) return Wrong("size", kFrameHeaderBytes, bytes.size());
  const uint32_t magic = Get<uint32_t>(bytes, 0);
  if (magic != kFrameMagic) return Wrong("magic", kFrameMagic, magic);
  const uint16_t version = Get<uint16_t>(bytes, 4);
  if (version != kFrameVersion) return Wrong("version", int{kFrameVersion}, int{version});
  if (bytes[6] < 1 || bytes[6] > 9) return Wrong("kind", "1..9", int{bytes[6]});

  FrameHeader header;
  header.kind = static_cast<FrameKind>(bytes[6]);
  if (header.kind == FrameKind::kCombine) {
    if (!IsVectorElement(bytes[7])) return Wrong("element", "1 or 2", int{bytes[7]});
  } else if (header.kind == FrameKind::kDispatch) {
    if (!IsQuantizedElement(bytes[7])) return Wrong("element", "1 or 6", int{bytes[7]});
  } else if (bytes[7] != static_cast<uint8_t>(ElementOf(header.kind))) {
    return Wrong("element", static_cast<int>(ElementOf(header.kind)), int{bytes[7]});
  }
  header.element = static_cast<FrameElement>(bytes[7]);
  header.link = LinkId(Get<uint64_t>(bytes, 8));
  header.sequence = Get<uint64_t>(bytes, 16);
  if (header.sequence == 0 && header.kind <= FrameKind::kNotHeld)
    return Wrong("sequence", "1 or more", 0);
  header.step = StepId(Get<uint64_t>(bytes, 24));
  const auto layer = static_cast<int32_t>(Get<uint32_t>(bytes, 32));
  if (layer < 0 || layer > kMaxFrameLayer)
    return Wrong("layer", absl::StrCat("0..", kMaxFrameLayer), layer);
  header.layer = LayerId(layer);
  header.model = Get<uint32_t>(bytes, 36);
  header.hidden = Get<uint32_t>(bytes, 40);
  if (header.hidden > kMaxFrameHidden)
    return Wrong("hidden", absl::StrCat("at most ", kMaxFrameHidden), header.hidden);
  header.tokens = Get<uint32_t>(bytes, 44);
  if (header.tokens > kMaxFrameTokens)
    return Wrong("tokens", absl::StrCat("at most ", kMaxFrameTokens), header.tokens);
  header.pairs = Get<uint32_t>(bytes, 48);
  if (header.pairs > kMaxFramePairs)
    return Wrong("pairs", absl::StrCat("at most ", kMaxFramePairs), header.pairs);
  header.experts = Get<uint16_t>(bytes, 52);
  if (header.experts > kMaxFrameExperts)
    return Wrong("experts", absl::StrCat("at most ", kMaxFrameExperts), header.experts);
  const bool answerable = header.kind == FrameKind::kDispatch;
  if (answerable ? !IsVectorElement(bytes[54]) : bytes[54] != 0)
    return Wrong("answer", answerable ? "1 or 2" : "0", int{bytes[54]});
  header.answer = static_cast<FrameElement>(bytes[54]);
  if (bytes[55] != 0) return Wrong("reserved byte", 0, int{bytes[55]});
  header.payload_bytes = Get<uint64_t>(bytes, 56);
  if (absl::Status status = CheckPayloadBytes(header); !status.ok()) return status;
  return header;
}

std::string Describe(const FrameHeader& header) {
  return absl::StrFormat("%s %d of step %d layer %d", NameOf(header.kind), header.sequence,
                         header.step.value(), header.layer.value());
}

uint64_t CombineBytes(FrameElement element, uint64_t pairs, uint64_t hidden) {
  if (element != FrameElement::kInt16Groups) return pairs * hidden * sizeof(float);
  const uint64_t groups = (hidden + kernels::kActivationGroup - 1) / kernels::kActivationGroup;
  return pairs * groups * (2 * kernels::kActivationGroup + sizeof(float));
}

FrameHeader CombineHeaderFor(const FrameHeader& dispatch) {
  FrameHeader header = dispatch;
  header.kind = FrameKind::kCombine;
  header.element = dispatch.answer;
  header.answer = FrameElement::kNone;
  header.payload_bytes = CombineBytes(header.element, dispatch.pairs, dispatch.hidden);
  return header;
}

FrameHeader ErrorHeaderFor(const FrameHeader& dispatch, uint64_t text_bytes) {
  FrameHeader header = dispatch;
  header.kind = FrameKind::kError;
  header.element = FrameElement::kText;
  header.answer = FrameElement::kNone;
  header.payload_bytes = text_bytes;
  return header;
}

FrameHeader NotHeldHeaderFor(const FrameHeader& dispatch, uint32_t experts) {
  FrameHeader header = dispatch;
  header.kind = FrameKind::kNotHeld;
  header.element = FrameElement::kExpertIds;
  header.answer = FrameElement::kNone;
  header.experts = experts;
  header.payload_bytes = uint64_t{experts} * sizeof(int32_t);
  return header;
}

}  // namespace sheaf
