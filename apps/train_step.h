#pragma once
#include <cstdint>
#include <memory>

#include "apps/console.h"
#include "apps/resident_images.h"
#include "apps/upload_queue.h"
#include "data/loader.h"
#include "engine/distributed/collective.h"
#include "engine/distributed/gradient_exchange.h"
#include "engine/find_nonfinite.h"
#include "engine/graph.h"
#include "engine/nn/module.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"

namespace cairn::app {

/// The other processes of a step, each of which computes a part of the batch.
struct StepProcesses {
  distributed::Communicator* communicator = nullptr;
  distributed::Collective* collective = nullptr;
  distributed::GradientExchange* gradients = nullptr;
  Tensor averaged;  // [n] fp32: running statistics that each process has of its own images; may be undefined
};

struct TrainStepOptions {
  DType precision = DType::f32;  // of activations; fp16 brings loss scaling
  bool tf32 = false;
  std::int64_t batch_size = 0;  // of all batches but an epoch's last: this process's part
  std::int64_t image_size = 0;
  Normalization normalization;
  CrossEntropyOptions loss;
  ResidentImages* resident = nullptr;  // where the images stay on the device
  bool graphs = true;                  // whether steps may be captured
  std::int64_t pieces = 1;             // the batch goes through the model in so many
  nn::RandomState random = {};         // the model's, for pieces
  StepProcesses processes = {};        // empty: there are no others
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

  /// Queues the step and returns its loss, of all processes' images, [1] fp32, left on the device until the
  /// next step. Holds the batch's pixels for as long as it needs them.
  Tensor run(const data::Batch& batch, float lr);
  /// Runs the next step once more, kernel by kernel and to the same bits, but for the optimiser: for a batch
  /// whose step was not taken. Says where its first value is that is no number, and leaves no trace.
  Nonfinite find_nonfinite(const data::Batch& batch);

 private:
  struct Inputs {
    Tensor x, labels;        // [N,S,S,3] in the compute dtype, [N] int32
    Tensor labels2, lambda;  // of mixed images
    Tensor places;           // [N] int32, of resident images
    Tensor shares;           // [pieces + 1] fp32: of the batch's loss, each piece's and their sum
  };
  bool shared() const { return options_.pieces > 1 || options_.processes.collective; }
  void load(const data::Batch& batch, Inputs& inputs);
  Tensor loss_of(const Inputs& inputs, bool mixed);
  void send_step_number();
  std::vector<float> shares_of(const data::Batch& batch) const;
  Inputs piece_of(const Inputs& inputs, std::int64_t piece) const;
  Inputs stand_in() const;
  Tensor queue(const Inputs& inputs, bool mixed);
  Tensor accumulate(const Inputs& inputs, bool mixed);
  bool capture(bool mixed);

  nn::Module& model_;
  optim::Optimizer& optimizer_;
  Tensor step_counter_;
  TrainStepOptions options_;
  std::vector<float> class_weights_;  // on the host, where the shares need them
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
