#include "apps/fine_tuning.h"

#include <fnmatch.h>

#include "engine/nn/layers.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

bool fits(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

[[noreturn]] void fits_nothing(const char* option, const std::string& pattern,
                               const std::vector<std::string>& names) {
  throw InputError(std::string(option) + " " + pattern + " fits no parameter that is trained; there are " +
                   names.front() + " ... " + names.back() + " (put the pattern into quotes)");
}

}  // namespace

std::vector<nn::Module*> freeze(nn::Module& model, const std::vector<std::string>& patterns) {
  std::vector<nn::Module*> batch_norms;
  if (patterns.empty()) return batch_norms;
  std::vector<nn::NamedTensor> parameters = model.named_parameters();
  std::vector<std::string> names;
  for (const nn::NamedTensor& p : parameters) names.push_back(p.name);
  for (const std::string& pattern : patterns) {
    bool any = false;
    for (nn::NamedTensor& p : parameters) {
      if (!fits(pattern, p.name)) continue;
      p.tensor.set_requires_grad(false);
      any = true;
    }
    if (!any) fits_nothing("--freeze", pattern, names);
  }
  bool some_left = false;
  for (const nn::NamedTensor& p : parameters) some_left = some_left || p.tensor.requires_grad();
  if (!some_left) throw InputError("--freeze leaves nothing to train: name fewer parameters");
  model.apply([&](const std::string&, nn::Module& module) {
    const auto* bn = dynamic_cast<nn::BatchNorm2d*>(&module);
    if (bn && !bn->tensors().gamma.requires_grad() && !bn->tensors().beta.requires_grad())
      batch_norms.push_back(&module);
  });
  return batch_norms;
}

void hold_frozen(const std::vector<nn::Module*>& batch_norms) {
  for (nn::Module* module : batch_norms) module->eval();
}

void scale_rates(optim::FlatParameters& parameters, const std::vector<std::string>& scales) {
  std::vector<std::string> names;
  for (const optim::FlatParameters::Slice& s : parameters.slices()) names.push_back(s.parameter.name);
  for (const std::string& text : scales) {
    const LrScale scale = parse_lr_scale(text);
    bool any = false;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!fits(scale.pattern, names[i])) continue;
      parameters.set_lr_scale(i, scale.factor);
      any = true;
    }
    if (!any) fits_nothing("--lr-scale", scale.pattern, names);
  }
}

}  // namespace cairn::app
