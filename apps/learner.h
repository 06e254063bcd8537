#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "apps/model_card.h"
#include "apps/options.h"
#include "apps/train_step.h"
#include "data/dataset/dataset.h"
#include "data/loader.h"
#include "data/manifest.h"
#include "engine/distributed/collective.h"
#include "engine/distributed/gradient_exchange.h"
#include "engine/nn/module.h"
#include "engine/optim/optimizer.h"
#include "engine/optim/parameters.h"
#include "engine/optim/schedule.h"
#include "models/registry.h"

namespace cairn::app {

/// What a model and its training are made from. The references must outlive it.
struct LearnerSetup {
  TrainOptions options;  // resolved
  CommonOptions common;
  Device device;
  const data::Dataset& dataset;
  const data::Manifest& manifest;
  Console& console;
  bool resumed = false;  // the weights come from a state, not from --init
  /// Some steps are recorded (apps/profile.h) and written to the run directory. Steps are launched kernel by
  /// kernel; what they compute is the same.
  bool profile = false;
  distributed::Communicator* processes = nullptr;  // that train together; null: this one trains alone
};
/// Throws InputError where the batch cannot be cut into equal parts for the processes and pieces.
void check_parts_of_batch(const TrainOptions& o, int world);

/// Weights made elsewhere expect their own normalisation: mean and std that were not given follow the file of
/// --init. Call before TrainOptions::resolve().
void adopt_normalization(TrainOptions& o, Console& console);
/// What the options say of a model, as its files will say it.
ModelCard card_of(const LearnerSetup& setup);

/// How the model is built and trained, as the options say.
models::ModelOptions model_options(const LearnerSetup& setup);
optim::OptimizerOptions optimizer_options(const TrainOptions& options);

/// Images in an epoch of the training part, repeated ones counted.
std::int64_t epoch_images(const LearnerSetup& setup);

/// This process's batches of one part. With `training`: shuffled, balanced, augmented, into pinned memory;
/// else in order and as they are, every so manieth batch as a whole, and null where there is none for this
/// process. `resident`, for training, may be null.
std::unique_ptr<data::Loader> make_loader(const LearnerSetup& setup, data::Part part, bool training,
                                          ResidentImages* resident = nullptr);
/// The training part where the device keeps it; null where it does not.
std::unique_ptr<ResidentImages> make_resident_images(const LearnerSetup& setup);

/// The model and what changes it, made as the options say: with the weights of --init, on the device.
/// Everything it is made from must outlive it.
class Learner {
 public:
  /// `batches`: of an epoch, for schedules in epochs.
  Learner(const LearnerSetup& setup, ResidentImages* resident, std::int64_t batches);

  nn::Module& model() { return *model_; }
  optim::Optimizer& optimizer() { return *optimizer_; }
  const optim::Schedule& schedule() const { return schedule_; }
  TrainStep& step() { return *step_; }
  /// Puts the model into training mode, but for what is frozen.
  void train();

 private:
  void build_model(const LearnerSetup& setup);
  void build_optimizer(const LearnerSetup& setup, std::int64_t batches);
  void join_processes(const LearnerSetup& setup);
  void build_step(const LearnerSetup& setup, ResidentImages* resident);

  std::unique_ptr<nn::Module> model_;
  std::vector<nn::Module*> frozen_batch_norms_;
  Tensor step_counter_;  // [1] int64 on the device, read by dropout
  nn::RandomState random_;
  std::unique_ptr<distributed::Collective> collective_;
  std::unique_ptr<distributed::GradientExchange> gradients_;
  Tensor statistics_;  // [n] fp32: the running ones, where each process has its own
  std::unique_ptr<optim::FlatParameters> parameters_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  optim::Schedule schedule_;
  std::unique_ptr<TrainStep> step_;
};

}  // namespace cairn::app
