#pragma once
// Holdings: the set of (layer, expert) pairs that a worker has in memory now. A worker announces it
// whole, under a number that grows, on every link and to the coordinator; what is announced last is
// what counts.
//
// Wire       u64 number, i32 layers, i32 experts a layer, then layers * experts bits, layer-major,
//            lowest bit first, zeros at the end. About 1.4 KB for 92 layers of 120.
// Errors     Decode: kInvalidArgument naming wanted and got (another shape, wrong size, stray
//            bits).
// Threads    a value.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"

namespace sheaf {

class Holdings {
 public:
  Holdings() = default;
  Holdings(int num_layers, int num_experts);

  int num_layers() const { return num_layers_; }
  int num_experts() const { return num_experts_; }
  uint64_t number = 0;

  // False outside the model.
  bool Has(LayerId layer, ExpertId expert) const;
  void Add(LayerId layer, ExpertId expert);
  void Remove(LayerId layer, ExpertId expert);
  int64_t count() const;  // pairs held
  std::vector<LayerExpert> List() const;  // ascending

  std::string Encode() const;
  static absl::StatusOr<Holdings> Decode(std::span<const uint8_t> bytes, int num_layers,
                                         int num_experts);
  friend bool operator==(const Holdings&, const Holdings&) = default;

 private:
  size_t Index(LayerId layer, ExpertId expert) const;
  bool Inside(LayerId layer, ExpertId expert) const;

  int num_layers_ = 0;
  int num_experts_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace sheaf
