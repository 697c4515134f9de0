// Bytes from a network: 64 of header, the rest payload. Decoding must refuse or prove every index.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "exchange/byte_buffer.h"
#include "exchange/dispatch_payload.h"

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
  DispatchView view;
  if (!DecodeDispatch(*header, payload.bytes(), view).ok()) return 0;
  // What the runner relies on: reading every row that the view names stays inside the payload.
  int64_t sum = 0;
  for (const int32_t row : view.rows) {
    sum += view.x.row_planes(row)[256 * view.x.groups() - 1];
    sum += view.x.row_scales(row)[view.x.groups() - 1] > 0;
  }
  volatile int64_t keep = sum;
  (void)keep;
  return 0;
}
