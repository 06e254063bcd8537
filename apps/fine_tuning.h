#pragma once
#include <string>
#include <vector>

#include "apps/options.h"
#include "engine/nn/module.h"
#include "engine/optim/parameters.h"

namespace cairn::app {

/// Parameters are named by shell patterns over their whole names ("layer1.*", "*.bias", "fc.?eight"); '*'
/// goes over dots. Both functions throw InputError for a pattern that fits no parameter.

/// Keeps from training what --freeze names. Returns the batch norms all of whose parameters are frozen, for
/// hold_frozen(). Call before the flat buffers are made.
std::vector<nn::Module*> freeze(nn::Module& model, const std::vector<std::string>& patterns);
/// After each model.train(): frozen batch norms normalise with their running statistics and keep them.
void hold_frozen(const std::vector<nn::Module*>& batch_norms);

/// Gives each parameter the factor of the last --lr-scale that fits it.
void scale_rates(optim::FlatParameters& parameters, const std::vector<std::string>& scales);

}  // namespace cairn::app
