#pragma once
// InProcessWorkers: expert workers as threads of this process (--transport inprocess): the whole
// exchange without processes or a control plane. For tests, debugging under one debugger, and
// machines where processes cannot talk.
//
// Ownership  borrows the maker and the sources; they outlive it. Threads: any.
// Errors     Start: what listening says.

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "exchange/expert_compute.h"
#include "exchange/link/link_maker.h"
#include "exchange/model_identity.h"
#include "exchange/pool/link_pool.h"

namespace sheaf {

// What one of them holds, for good.
struct InProcessHolding {
  const HeldExperts* source = nullptr;
  std::vector<LayerExpert> experts;  // of the source
};

class InProcessWorkers {
 public:
  // For links of that router.
  static absl::StatusOr<std::unique_ptr<InProcessWorkers>> Start(
      LinkMaker& links, const ModelIdentity& model, InstanceId router,
      const std::vector<InProcessHolding>& holdings, int threads_each);
  ~InProcessWorkers();

  // For LinkPool::SetWorkers: worker i holds holdings[i].
  const std::vector<WorkerEndpoint>& endpoints() const { return endpoints_; }

 private:
  struct Member;
  InProcessWorkers();
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<WorkerEndpoint> endpoints_;
};

}  // namespace sheaf
