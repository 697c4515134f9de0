#pragma once
// InProcessWorkers: expert workers as threads of this process (--transport inprocess): the whole
// exchange without processes or a control plane. For tests, debugging under one debugger, and
// machines where processes cannot talk.
//
// Opens epoch 1 at once. After a fault it opens the next one when Current() is called: threads do
// not die, so there is nobody to wait for.
//
// Ownership  borrows sources and transport; they outlive it. Threads: Current and OnFault from the
//            step thread.

#include <memory>
#include <thread>
#include <vector>

#include "exchange/expert_source.h"
#include "exchange/remote_expert_layer.h"
#include "exchange/transport.h"

namespace sheaf {

class InProcessWorkers final : public EpochSource {
 public:
  // sources[i] is worker i's slice; the placement must agree with them.
  static absl::StatusOr<std::unique_ptr<InProcessWorkers>> Start(
      Transport& transport, std::vector<const ExpertSource*> sources, ExpertPlacement placement,
      int threads_each);
  ~InProcessWorkers() override;

  absl::StatusOr<OpenEpoch> Current() override;
  void OnFault(Epoch epoch, const LinkFault& fault) override;

  Epoch epoch() const { return epoch_; }

 private:
  struct Worker;
  InProcessWorkers(Transport& transport, std::vector<const ExpertSource*> sources,
                   ExpertPlacement placement, int threads_each);
  absl::Status OpenNext();
  void StopWorkers();

  Transport& transport_;
  const std::vector<const ExpertSource*> sources_;
  const std::shared_ptr<const ExpertPlacement> placement_;
  const int threads_each_;

  Epoch epoch_{0};
  std::shared_ptr<RouterLink> link_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace sheaf
