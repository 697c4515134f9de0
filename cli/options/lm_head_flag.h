#pragma once
// --lm-head-dtype, of a router and of `sheaf inspect`.

#include "model/lm_head.h"

namespace CLI {
class App;
}

namespace sheaf {

// `dtype` is written when `app` parses, and must live until then.
void AddLmHeadFlag(CLI::App& app, LmHeadDtype& dtype);

}  // namespace sheaf
