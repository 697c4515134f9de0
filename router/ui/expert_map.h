#pragma once
// ExpertMap: who holds which expert, and how often each was asked for, as a picture of layers x
// experts. Layers without routed experts are not in it.
//
// Wire      JSON: {"version", "first_layer", "layers", "experts", "workers": [{"id", "held"}],
//           "load", "load_peak_over_mean"}. `held`: base64 of a bit an expert, layer by layer,
//           lowest bit first. `load`: base64 of a byte an expert, 255 = the one asked for most;
//           empty: nothing was asked yet.
// Threads   a value. Cost: ToJson is O(workers x layers x experts).

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sheaf {

struct ExpertMap {
  uint64_t version = 0;  // of the holdings; grows with every change
  int first_layer = 0;
  int layers = 0;   // from the first one with experts on
  int experts = 0;  // a layer
  struct Holder {
    int worker = 0;
    std::vector<bool> held;  // [layers][experts]
  };
  std::vector<Holder> holders;  // ascending worker
  std::vector<double> load;     // [layers][experts], any unit; empty: not measured

  std::string ToJson() const;
};

}  // namespace sheaf
