#pragma once
// 8-bit codes of the file formats into kernels/linear/packed_w8.h.
//
// Shapes     as formats.h's Unpack: `codes` are zeroed memory of the packed size; places past the
//            range stay zero.
// Threads    pure but for page faults. Cost: one read and one write of the codes.

#include <cstddef>
#include <cstdint>

#include "model/formats/formats.h"

namespace sheaf {

// Words [k/4][n], four inputs of one output each, low byte first (GPTQ).
void UnpackColumnsOfBytes(const uint8_t* words, int n, int k, const UnpackRange& range,
                          const WeightGroups& groups, uint32_t* codes);

// A row's inputs one after the other, rows `row_bytes` apart; `flip` is exclusive-ored to each
// (0x80 makes unsigned codes of signed bytes).
void UnpackRowsOfBytes(const uint8_t* bytes, size_t row_bytes, uint8_t flip,
                       const UnpackRange& range, const WeightGroups& groups, uint32_t* codes);

}  // namespace sheaf
