#pragma once
// The inner steps of the indexer's scores: a panel of keys with the positions side by side, and all
// heads of one query over it. Internal to index_scores*.cc.
//
// Threads    pure. Never called while the reference target is forced.

#include <cstddef>

#include "kernels/attention/index_scores.h"
#include "kernels/linear/records_ahead.h"

namespace sheaf::kernels::internal {

// Positions in a panel on the active target.
size_t IndexPanelPositions();

// Floats of room that LoadIndexPanel needs beside the panel.
constexpr size_t IndexRowsFloats(size_t dim) { return 16 * ((dim + 15) / 16 * 16); }

// panel [dim rounded up to 4][IndexPanelPositions()]: the keys of positions [begin, begin + count),
// zeros behind them.
void LoadIndexPanel(const IndexKeyPool& keys, const int32_t* block_table, int begin, size_t count,
                    float* rows, float* panel);

// scores[0, count) of one query over a panel; fetches `ahead` meanwhile.
void ScoreIndexPanel(const IndexQuery& query, int num_heads, size_t dim, float scale,
                     const float* panel, size_t count, const RecordsAhead& ahead, float* scores);

}  // namespace sheaf::kernels::internal
