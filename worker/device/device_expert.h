#pragma once
// DeviceExpert: an expert in a device's memory. Its end gives the memory back, so whoever computes
// with it on the device keeps it until the device is done.
//
// Ownership  borrows the space, which outlives it. Threads: constant; any.

#include <cstdint>
#include <memory>
#include <utility>

#include "exchange/expert_compute.h"
#include "worker/device/cuda_runtime.h"
#include "worker/device/device_expert_kernels.h"
#include "worker/device/device_space.h"

namespace sheaf {

class DeviceExpert final : public HeldExpert {
 public:
  // `at` was taken of the space, whose begin is `base`.
  DeviceExpert(DeviceSpace& space, DeviceAddress base, uint64_t at,
               std::shared_ptr<const DeviceExpertLayout> layout)
      : space_(space), at_(at), address_(base + at), layout_(std::move(layout)) {}
  ~DeviceExpert() override { space_.GiveBack(at_, layout_->bytes()); }

  int hidden_size() const override { return layout_->hidden(); }
  size_t resident_bytes() const override { return layout_->bytes(); }
  DeviceAddress address() const { return address_; }
  const DeviceExpertLayout& layout() const { return *layout_; }

 private:
  DeviceSpace& space_;
  const uint64_t at_;
  const DeviceAddress address_;
  const std::shared_ptr<const DeviceExpertLayout> layout_;
};

}  // namespace sheaf
