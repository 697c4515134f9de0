#include <vector>

#include "kernels/linear/dense_product.h"
#include "kernels/simd/lanes_ref.h"

namespace sheaf::kernels::ref {

void MultiplyDense(const DensePiece& piece) {
  const DenseMatrix& w = *piece.w;
  const int padded_k = (w.k + 15) / 16 * 16;
  std::vector<float> weights(padded_k, 0.0f);
  for (int column = piece.column_begin; column < piece.column_end; ++column) {
    ref::WidenRow(w, column, 0, w.k, weights.data());
    for (int i = piece.row_begin; i < piece.row_end; ++i) {
      const float* x = piece.x + static_cast<size_t>(i) * w.k;
      Lanes16 lanes;
      for (int j = 0; j < padded_k; ++j) lanes.Fma(j, j < w.k ? x[j] : 0.0f, weights[j]);
      float sum = lanes.Sum();
      if (piece.bias != nullptr) sum += piece.bias[column];
      piece.y[(i - piece.row_begin) * piece.y_stride + column - piece.column_begin] = sum;
    }
  }
}

}  // namespace sheaf::kernels::ref
