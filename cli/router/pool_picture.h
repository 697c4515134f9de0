#pragma once
// What a router's links and its coordinator say, as the records that are shown (router/ui/). Pure.

#include <vector>

#include "exchange/pool/link_pool.h"
#include "router/ui/expert_map.h"
#include "router/ui/pool_picture.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

// `status`: null where no coordinator answers. Workers of either side, by id.
PoolPicture PictureOf(const LinkPoolSnapshot& links, PoolPicture::Place place,
                      const v1::PoolStatus* status);

// `load`: [layers with experts][experts]; another size is left out.
ExpertMap MapOf(const ModelIdentity& model, const LinkPoolSnapshot& links,
                std::vector<double> load);

}  // namespace sheaf
