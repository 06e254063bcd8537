// A plugin with one model.
#include "engine/nn/layers.h"
#include "models/plugin.h"

namespace {

std::unique_ptr<cairn::nn::Module> make(const cairn::models::ModelOptions& options) {
  cairn::nn::Initializer init(options.seed);
  auto model = std::make_unique<cairn::nn::Sequential>();
  model->add<cairn::nn::GlobalAvgPool>("pool");
  model->add<cairn::nn::Linear>("fc", init,
                                cairn::nn::LinearOptions{.in_features = 3, .out_features = options.classes});
  return model;
}

const cairn::models::RegisterModel kModel{{.name = CAIRN_TEST_MODEL,
                                           .summary = "mean colour",
                                           .head = "fc",
                                           .defaults = cairn::models::resnet_defaults(),
                                           .make = &make}};

}  // namespace
#if !defined(CAIRN_TEST_NO_PLUGIN)
CAIRN_PLUGIN();
#endif
