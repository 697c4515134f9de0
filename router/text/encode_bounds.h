#pragma once
// EncodeBounds: when tokenizing a long text is given up, and in what pieces it is done.
//
// A text is encoded piece by piece, with the tokens of the whole, where its tokenizer is known well
// enough (rust/src/pieces.rs); the memory that encoding needs is that of a piece (some 250 bytes a
// byte of text). Bounds are looked at between pieces; other tokenizers take every text whole.
// Threads: `stop` is called on the encoding thread.

#include <cstddef>
#include <cstdint>
#include <functional>

namespace sheaf {

struct EncodeBounds {
  // Beyond so many tokens the rest does not matter: the result then is a beginning of more than
  // these.
  size_t max_tokens = SIZE_MAX;
  // Nobody wants the tokens any more: kCancelled. Empty: never. Once true it stays true.
  std::function<bool()> stop = {};
  size_t piece_bytes = size_t{64} << 10;  // about; another size only for tests
};

}  // namespace sheaf
