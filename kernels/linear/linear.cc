#include "kernels/linear/linear.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "base/check.h"
#include "kernels/linear/dense_product.h"
#include "kernels/linear/integer_product.h"
#include "kernels/linear/product_split.h"

namespace sheaf::kernels {
namespace {

// The activations of a call in a form that its caller did not have, made once however many products
// read them.
struct Form {
  const Activations* source = nullptr;
  const int32_t* permutation = nullptr;
  bool is_quantized = false;
  QuantizedRowsBuffer quantized;
  std::vector<float> floats;
};

// The forms of one RunLinears. The memory stays with the calling thread: a step makes the same
// forms in each layer.
class Forms {
 public:
  explicit Forms(ThreadPool& pool) : pool_(pool) {}

  const float* Floats(const Activations& x) {
    if (x.floats != nullptr) return x.floats;
    bool is_new = false;
    Form& form = Get(x, nullptr, /*is_quantized=*/false, is_new);
    if (is_new) {
      form.floats.resize(static_cast<size_t>(x.num_rows) * x.k);
      pool_.ParallelFor(x.num_rows, CostOfElements(x.k), [&](int64_t row, int) {
        DequantizeRow(x.quantized.bits, x.quantized.row_planes(row), x.quantized.row_scales(row),
                      x.k, form.floats.data() + row * x.k);
      });
    }
    return form.floats.data();
  }

  QuantizedRows Quantized(const Activations& x, const int32_t* permutation) {
    if (permutation == nullptr && x.quantized.planes != nullptr) return x.quantized;
    bool is_new = false;
    Form& form = Get(x, permutation, /*is_quantized=*/true, is_new);
    if (is_new && permutation == nullptr) {
      form.quantized.Resize(x.num_rows, x.k, x.quantized.bits);
      QuantizeRows(pool_, x.floats, x.num_rows, x.k, form.quantized);
    } else if (is_new) {
      Permute(Quantized(x, nullptr), permutation, form.quantized);
    }
    return form.quantized.view();
  }

 private:
  Form& Get(const Activations& x, const int32_t* permutation, bool is_quantized, bool& is_new) {
    // A deque: forms keep their place while others are added.
    static thread_local std::deque<Form> memory;
    for (size_t i = 0; i < num_used_; ++i) {
      Form& form = memory[i];
      if (form.source == &x && form.permutation == permutation &&
          form.is_quantized == is_quantized) {
        return form;
      }
    }
    if (num_used_ == memory.size()) memory.emplace_back();
    Form& form = memory[num_used_++];
    form.source = &x;
    form.permutation = permutation;
    form.is_quantized = is_quantized;
    is_new = true;
    return form;
  }

  // Packed order of a desc_act file: groups are other inputs, so the rows are quantized
  // again.
  void Permute(const QuantizedRows& x, const int32_t* permutation, QuantizedRowsBuffer& out) {
    out.Resize(x.num_rows, x.k, x.bits);
    pool_.ParallelFor(x.num_rows, CostOfElements(2 * int64_t{x.k}), [&](int64_t row, int) {
      thread_local std::vector<float> values, ordered;
      values.resize(static_cast<size_t>(x.k));
      ordered.resize(static_cast<size_t>(x.k));
      DequantizeRow(x.bits, x.row_planes(row), x.row_scales(row), x.k, values.data());
      for (int i = 0; i < x.k; ++i) ordered[i] = values[permutation[i]];
      QuantizeRow(x.bits, ordered.data(), x.k, out.row_planes(row), out.row_scales(row),
                  out.row_sums(row));
    });
  }

  ThreadPool& pool_;
  size_t num_used_ = 0;
};

// One product, cut into columns of outputs ("blocks") times chunks of rows.
struct Work {
  const LinearCall* call = nullptr;
  QuantizedRows rows;             // integer weights
  const float* floats = nullptr;  // float weights
  int block_outputs = kRowBlock;
  int num_blocks = 0;
  ProductSplit split;
  int64_t first_item = 0;

  void Run(int64_t item) const {
    const Linear& linear = *call->linear;
    const int block_begin = static_cast<int>(item / split.row_items) * split.item_blocks;
    const int block_end = std::min(num_blocks, block_begin + split.item_blocks);
    const int row_begin = static_cast<int>(item % split.row_items) * split.item_rows;
    const int row_end = std::min(call->x->num_rows, row_begin + split.item_rows);
    float* y = call->y + row_begin * call->y_stride + block_begin * block_outputs;
    if (linear.is_integer()) {
      MultiplyIntegers(linear, {.x = rows,
                                .row_begin = row_begin,
                                .row_end = row_end,
                                .block_begin = block_begin,
                                .block_end = block_end,
                                .y = y,
                                .y_stride = call->y_stride});
    } else {
      MultiplyDense({.w = &linear.dense,
                     .bias = linear.bias,
                     .x = floats,
                     .row_begin = row_begin,
                     .row_end = row_end,
                     .column_begin = block_begin * block_outputs,
                     .column_end = std::min(linear.dense.n, block_end * block_outputs),
                     .y = y,
                     .y_stride = call->y_stride});
    }
  }
};

}  // namespace

void RunLinears(ThreadPool& pool, std::span<const LinearCall> calls) {
  Forms forms(pool);
  std::vector<Work> works;
  works.reserve(calls.size());
  int64_t total_blocks = 0;
  int64_t multiply_adds = 0;
  for (const LinearCall& call : calls) {
    const Linear& linear = *call.linear;
    SHEAF_CHECK(linear.storage != Linear::Storage::kNone, "the loader fills every Linear");
    SHEAF_CHECK(linear.k() == call.x->k, "shapes are checked when a checkpoint is loaded");
    if (call.x->num_rows == 0 || linear.n() == 0) continue;
    Work work;
    work.call = &call;
    // Of e4m3 some are computed kRowBlock outputs at a time however few the rows.
    work.block_outputs =
        BlockOutputs(!linear.is_integer() && linear.dense.format != FloatFormat::kE4M3,
                     call.x->num_rows);
    work.num_blocks = (linear.n() + work.block_outputs - 1) / work.block_outputs;
    if (linear.is_integer()) {
      work.rows = forms.Quantized(*call.x, linear.permutation());
    } else {
      work.floats = forms.Floats(*call.x);
    }
    total_blocks += work.num_blocks;
    multiply_adds += int64_t{call.x->num_rows} * linear.n() * linear.k();
    works.push_back(work);
  }
  int64_t num_items = 0;
  for (Work& work : works) {
    work.split =
        SplitProduct(work.num_blocks, work.call->x->num_rows, total_blocks, pool.num_threads());
    work.first_item = num_items;
    num_items += work.split.num_items;
  }
  if (num_items == 0) return;
  pool.ParallelFor(num_items, CostOfMultiplyAdds(multiply_adds / num_items),
                   [&](int64_t item, int) {
                     size_t w = works.size() - 1;
                     while (works[w].first_item > item) --w;
                     works[w].Run(item - works[w].first_item);
                   });
}

void QuantizeRows(ThreadPool& pool, const float* x, int num_rows, int k, QuantizedRowsBuffer& out) {
  out.Resize(num_rows, k);
  pool.ParallelFor(num_rows, CostOfElements(k), [&](int64_t row, int) {
    QuantizeRow(out.bits(), x + row * k, k, out.row_planes(row), out.row_scales(row),
                out.row_sums(row));
  });
}

}  // namespace sheaf::kernels
