// Bytes from a network: 64 of header, the rest payload. Decoding must refuse or prove every index.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/byte_buffer.h"
#include "exchange/wire/combine_payload.h"
#include "exchange/wire/dispatch_payload.h"
#include "exchange/wire/holdings.h"

namespace sheaf {
namespace {

// What the runner relies on: reading every row that the view names stays inside the payload.
void ReadDispatch(const FrameHeader& header, std::span<const uint8_t> payload) {
  DispatchView view;
  if (!DecodeDispatch(header, payload, view).ok()) return;
  int64_t sum = 0;
  for (const int32_t row : view.rows) {
    sum += view.x.row_planes(row)[256 * view.x.groups() - 1];
    sum += view.x.row_scales(row)[view.x.groups() - 1] > 0;
  }
  volatile int64_t keep = sum;
  (void)keep;
}

void ReadCombine(const FrameHeader& header, std::span<const uint8_t> payload) {
  const auto view = CombineView::Decode(header, payload);
  if (!view.ok()) return;
  std::vector<float> row(header.hidden);
  for (uint32_t pair = 0; pair < header.pairs && pair < 64; ++pair) view->Expand(pair, row.data());
}

void ReadHoldings(std::span<const uint8_t> payload) {
  const auto holdings = Holdings::Decode(payload, 4, 6);
  if (!holdings.ok()) return;
  const std::string again = holdings->Encode();
  if (again.size() != payload.size() ||
      std::memcmp(again.data(), payload.data(), again.size()) != 0)
    std::abort();
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  if (size < kFrameHeaderBytes) {
    if (DecodeFrameHeader({data, size}).ok()) std::abort();
    return 0;
  }
  const absl::StatusOr<FrameHeader> header = DecodeFrameHeader({data, kFrameHeaderBytes});
  if (!header.ok()) return 0;
  const FrameHeaderBytes again = EncodeFrameHeader(*header);
  if (std::memcmp(again.data(), data, again.size()) != 0) std::abort();

  ByteBuffer payload;
  payload.Resize(size - kFrameHeaderBytes);
  // An empty payload has no address.
  if (payload.size() > 0) std::memcpy(payload.data(), data + kFrameHeaderBytes, payload.size());
  ReadDispatch(*header, payload.bytes());
  ReadCombine(*header, payload.bytes());
  if (header->kind == FrameKind::kHoldings) ReadHoldings(payload.bytes());
  return 0;
}
