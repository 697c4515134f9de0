#include "exchange/wire/frame.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

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
    case FrameKind::kHello:
      return "hello";
    case FrameKind::kHelloAck:
      return "hello ack";
    case FrameKind::kDispatch:
      return "dispatch";
    case FrameKind::kCombine:
      return "combine";
    case FrameKind::kError:
      return "error";
  }
  return "unknown";
}

FrameType TypeFor(FrameKind kind) {
  switch (kind) {
    case FrameKind::kDispatch:
      return FrameType::kInt16Groups;
    case FrameKind::kCombine:
      return FrameType::kFloat32;
    case FrameKind::kError:
      return FrameType::kText;
    default:
      return FrameType::kNone;
  }
}

}  // namespace

FrameHeaderBytes EncodeFrameHeader(const FrameHeader& header) {
  FrameHeaderBytes bytes{};
  Put<uint32_t>(bytes, 0, kFrameMagic);
  Put<uint16_t>(bytes, 4, kFrameVersion);
  bytes[6] = static_cast<uint8_t>(header.kind);
  bytes[7] = static_cast<uint8_t>(header.type);
  Put<uint64_t>(bytes, 8, header.epoch.value());
  Put<uint64_t>(bytes, 16, header.step.value());
  Put<uint32_t>(bytes, 24, static_cast<uint32_t>(header.layer.value()));
  Put<uint32_t>(bytes, 28, static_cast<uint32_t>(header.source));
  Put<uint32_t>(bytes, 32, header.chunk);
  Put<uint32_t>(bytes, 36, header.hidden);
  Put<uint32_t>(bytes, 40, header.tokens);
  Put<uint32_t>(bytes, 44, header.pairs);
  Put<uint32_t>(bytes, 48, header.experts);
  Put<uint64_t>(bytes, 56, header.payload_bytes);
  return bytes;
}

absl::StatusOr<FrameHeader> DecodeFrameHeader(std::span<const uint8_t> bytes) {
  if (bytes.size() != kFrameHeaderBytes) return Wrong("size", kFrameHeaderBytes, bytes.size());
  const uint32_t magic = Get<uint32_t>(bytes, 0);
  if (magic != kFrameMagic) return Wrong("magic", kFrameMagic, magic);
  const uint16_t version = Get<uint16_t>(bytes, 4);
  if (version != kFrameVersion) return Wrong("version", int{kFrameVersion}, int{version});
  if (bytes[6] < 1 || bytes[6] > 5) return Wrong("kind", "1..5", int{bytes[6]});

  FrameHeader header;
  header.kind = static_cast<FrameKind>(bytes[6]);
  header.type = TypeFor(header.kind);
  if (bytes[7] != static_cast<uint8_t>(header.type)) {
    return Wrong("type", static_cast<int>(header.type), int{bytes[7]});
  }
  header.epoch = Epoch(Get<uint64_t>(bytes, 8));
  header.step = StepId(Get<uint64_t>(bytes, 16));
  const auto layer = static_cast<int32_t>(Get<uint32_t>(bytes, 24));
  if (layer < 0 || layer > kMaxFrameLayer) return Wrong("layer", "0..4096", layer);
  header.layer = LayerId(layer);
  header.source = static_cast<int32_t>(Get<uint32_t>(bytes, 28));
  if (header.source < kRouterSource) return Wrong("source", "-1 or more", header.source);
  header.chunk = Get<uint32_t>(bytes, 32);
  header.hidden = Get<uint32_t>(bytes, 36);
  if (header.hidden > kMaxFrameHidden) return Wrong("hidden", "at most 65536", header.hidden);
  header.tokens = Get<uint32_t>(bytes, 40);
  if (header.tokens > kMaxFrameTokens) return Wrong("tokens", "at most 65536", header.tokens);
  header.pairs = Get<uint32_t>(bytes, 44);
  if (header.pairs > kMaxFramePairs) return Wrong("pairs", "at most 1048576", header.pairs);
  header.experts = Get<uint32_t>(bytes, 48);
  if (header.experts > kMaxFrameExperts) return Wrong("experts", "at most 16384", header.experts);
  const uint32_t zero = Get<uint32_t>(bytes, 52);
  if (zero != 0) return Wrong("reserved", 0, zero);
  header.payload_bytes = Get<uint64_t>(bytes, 56);

  switch (header.kind) {
    case FrameKind::kHello:
    case FrameKind::kHelloAck:
      if (header.payload_bytes != 0) return Wrong("payload_bytes", 0, header.payload_bytes);
      break;
    case FrameKind::kDispatch:
      break;  // exchange/dispatch_payload.h knows the exact size
    case FrameKind::kCombine: {
      const uint64_t wanted = uint64_t{header.pairs} * header.hidden * sizeof(float);
      if (header.payload_bytes != wanted)
        return Wrong("payload_bytes", wanted, header.payload_bytes);
      break;
    }
    case FrameKind::kError:
      if (header.payload_bytes > kMaxErrorTextBytes) {
        return Wrong("payload_bytes", "at most 4096", header.payload_bytes);
      }
      break;
  }
  return header;
}

ExchangeKey KeyOf(const FrameHeader& header) {
  return {header.epoch.value(), header.step.value(), header.layer.value(), header.chunk};
}

std::string Describe(const FrameHeader& header) {
  return absl::StrFormat("%s epoch %d step %d layer %d chunk %d", NameOf(header.kind),
                         header.epoch.value(), header.step.value(), header.layer.value(),
                         header.chunk);
}

FrameHeader CombineHeaderFor(const FrameHeader& dispatch, WorkerId source) {
  FrameHeader header = dispatch;
  header.kind = FrameKind::kCombine;
  header.type = FrameType::kFloat32;
  header.source = source.value();
  header.payload_bytes = uint64_t{dispatch.pairs} * dispatch.hidden * sizeof(float);
  return header;
}

FrameHeader ErrorHeaderFor(const FrameHeader& dispatch, WorkerId source, uint64_t text_bytes) {
  FrameHeader header = dispatch;
  header.kind = FrameKind::kError;
  header.type = FrameType::kText;
  header.source = source.value();
  header.payload_bytes = text_bytes;
  return header;
}

}  // namespace sheaf
