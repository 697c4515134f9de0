#include "cli/router/checkpoint_referee.h"

#include <utility>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "exchange/wire/combine_payload.h"
#include "kernels/experts/expert_ffn.h"
#include "model/expert_reader.h"

namespace sheaf {

absl::StatusOr<Referee> MakeCheckpointReferee(std::shared_ptr<const Checkpoint> checkpoint,
                                              const ModelConfig& config, FrameElement element) {
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<ExpertReader> made,
                         ExpertReader::Create(std::move(checkpoint), config));
  const std::shared_ptr<const ExpertReader> reader = std::move(made);
  return Referee([reader, element](LayerId layer, ExpertId expert, const kernels::QuantizedRows& x,
                                   std::span<const int32_t> rows, float* out) -> absl::Status {
    LoadScratch scratch;
    SHEAF_ASSIGN_OR_RETURN(const ReadExpert read, reader->Read({layer, expert}, scratch));
    ThreadPool pool(1);
    kernels::ExpertScratch memory;
    std::vector<kernels::ExpertJob> jobs{{&read.weights, rows, out}};
    kernels::QuantizedRows summed = x;
    const size_t sums_a_row = x.sums_a_row();
    std::vector<int32_t> sums(sums_a_row * static_cast<size_t>(x.num_rows));
    for (int row = 0; row < x.num_rows; ++row) {
      kernels::SumRow(x.bits, x.row_planes(row), x.k,
                      sums.data() + sums_a_row * static_cast<size_t>(row));
    }
    summed.sums = sums.data();
    kernels::RunExperts(pool, summed, jobs, memory);
    if (element == FrameElement::kInt16Groups) {
      for (size_t i = 0; i < rows.size(); ++i) {
        RoundToInt16Groups(out + i * static_cast<size_t>(x.k), static_cast<size_t>(x.k));
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace sheaf
