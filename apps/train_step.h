#pragma once
#include <cstdint>
#include <memory>

#include "apps/console.h"
#include "apps/resident_images.h"
#include "apps/upload_queue.h"
#include "data/loader.h"
#include "engine/find_nonfinite.h"
#include "engine/graph.h"
#include "engine/nn/module.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"

namespace cairn::app {

struct TrainStepOptions {
  DType precision = DType::f32;  // of activations; fp16 brings loss scaling
  bool tf32 = false;
  std::int64_t batch_size = 0;  // of all batches but an epoch's last
  std::int64_t image_size = 0;
  Normalization normalization;
  CrossEntropyOptions loss;
  ResidentImages* resident = nullptr;  // where the images stay on the device
  bool graphs = true;                  // whether steps may be captured
};

/// One step of training, from pixels to changed weights. Pixels go up on a queue of their own, beside the
/// step before. On devices with graphs the kernels of a whole batch are captured once they are warm and
/// launched by one call from then on; another batch (an epoch's last, a mixed one among plain ones) is
/// launched kernel by kernel, to the same bits.
class TrainStep {
 public:
  /// `model` is on `device` and draws its random numbers from `step_counter` ([1] int64). All that is
  /// referred to must outlive the steps.
  TrainStep(nn::Module& model, optim::Optimizer& optimizer, const Tensor& step_counter,
            const TrainStepOptions& options, Device device, Console& console);

  /// Queues the step and returns its loss, [1] fp32, left on the device until the next step. Holds the
  /// batch's pixels for as long as it needs them.
  Tensor run(const data::Batch& batch, float lr);
  /// Runs the next step once more, kernel by kernel and to the same bits, but for the optimiser: for a batch
  /// whose step was not taken. Says where its first value is that is no number, and leaves no trace.
  Nonfinite find_nonfinite(const data::Batch& batch);

 private:
  struct Inputs {
    Tensor x, labels;        // [N,S,S,3] in the compute dtype, [N] int32
    Tensor labels2, lambda;  // of mixed images
    Tensor places;           // [N] int32, of resident images
  };
  void load(const data::Batch& batch, Inputs& inputs);
  Tensor loss_of(const Inputs& inputs, bool mixed);
  void send_step_number();
  Tensor queue(const Inputs& inputs, bool mixed);
  bool capture(bool mixed);

  nn::Module& model_;
  optim::Optimizer& optimizer_;
  Tensor step_counter_;
  TrainStepOptions options_;
  Device device_;
  Console& console_;
  UploadQueue uploads_;
  std::unique_ptr<StagedPixels> staged_;  // unless the images are resident
  Inputs inputs_;                         // of whole batches: the graph reads them
  Tensor graph_loss_;
  std::unique_ptr<Graph> graph_;
  bool graph_mixed_ = false;
  bool graphs_;  // still to be tried
  int whole_steps_ = 0;
};

}  // namespace cairn::app
