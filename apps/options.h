#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/console.h"
#include "kernels/dispatch.h"
#include "models/registry.h"

namespace cairn::app {

/// What every subcommand takes.
struct CommonOptions {
  std::string device = "auto";
  int threads = 0;  // for compute; 0: all cores
  int workers = 0;  // for loading; 0: one a core
  bool quiet = false;
  bool json = false;
};
void add_common(CLI::App& command, CommonOptions& options);
/// --quiet and --json alone, for commands that compute nothing.
void add_output(CLI::App& command, CommonOptions& options);

/// Opens the device, sets the number of compute threads and prints the first line: which device, and why.
Device open_device(const CommonOptions& options, Console& console);
/// Threads that compute, after open_device().
int compute_threads();
/// The dtype of activations: for "auto" what the device computes fast, else what was asked for; fp32 for
/// "tf32". Throws InputError for what the device does not train in.
DType choose_precision(const std::string& precision, Device device);
/// Its name, for people and files; "tf32" is one.
std::string computed_in(const std::string& precision, Device device);

/// Everything that decides a training run but for the device's speed. Values that depend on the model are
/// absent until resolve() has filled them in.
struct TrainOptions {
  std::string data;
  std::string out;
  std::string split;
  std::string fixes;
  std::string cache_file;
  std::string init;
  std::vector<std::string> plugin;
  std::string model = "resnet18";
  std::optional<std::int64_t> epochs;
  std::int64_t max_steps = 0;
  std::int64_t batch_size = 32;
  std::int64_t patience = 10;
  std::string optimizer;
  std::optional<double> lr;
  double momentum = 0.9;
  bool nesterov = false;
  std::optional<double> weight_decay;
  double clip_norm = 0;
  std::string on_nonfinite = "stop";
  double ema = 0;
  std::vector<std::string> freeze;
  std::vector<std::string> lr_scale;
  std::string schedule;
  std::optional<double> warmup_epochs;
  std::int64_t step_epochs = 0;
  double step_gamma = 0.1;
  std::string loss = "ce";
  std::optional<double> label_smoothing;
  double focal_gamma = 2;
  std::string precision = "auto";
  std::int64_t image_size = 224;
  std::string augment;
  std::string balance;
  std::string protocol = "split-first";
  std::string near_duplicates = "together";
  std::optional<double> val_fraction;
  std::optional<double> test_fraction;
  std::string decode = "fast";
  std::string resize = "stretch";
  std::int64_t max_pixels = 128'000'000;
  std::optional<double> dropout;
  std::vector<double> mean;
  std::vector<double> std;
  std::uint64_t seed = 0;
  bool no_shuffle = false;
  std::int64_t checkpoint_every_steps = 0;
  std::int64_t keep = 1;
  std::string time_limit;
  std::int64_t log_every_steps = 0;

  /// Fills in what depends on the model and the protocol and checks every value. Throws InputError naming
  /// the option.
  void resolve();
};

std::vector<std::string> model_names();

/// Calls v(name, value, help, choices) for every option: the one table behind the command line, config.json
/// and resuming. `choices` may be empty.
template <class Options, class Visitor>
void visit_train_options(Options& o, Visitor&& v) {
  using Choices = std::vector<std::string>;
  v("data", o.data, "folder with one folder a class, CSV (path,label), or .tar shards", Choices{});
  v("out", o.out, "run directory to make; must be empty or missing (default: runs/MODEL-DATE-TIME)",
    Choices{});
  v("split", o.split, "manifest written by `cairn split` (default: split here)", Choices{});
  v("fixes", o.fixes,
    "drop and relabel images as this fixes.csv of `cairn inspect` says; files stay as they are", Choices{});
  v("init", o.init, "start from these weights: .safetensors, or PyTorch's .pth", Choices{});
  v("plugin", o.plugin, "shared object with models of your own (docs/custom-ops.md); may be repeated",
    Choices{});
  v("model", o.model, "what to train", model_names());
  v("epochs", o.epochs, "passes over the training part", Choices{});
  v("max-steps", o.max_steps, "stop after so many steps; 0: no limit", Choices{});
  v("batch-size", o.batch_size, "images a step", Choices{});
  v("patience", o.patience, "stop after so many epochs without a better one; 0: never", Choices{});
  v("optimizer", o.optimizer, "", Choices{"sgd", "adam", "adamw"});
  v("lr", o.lr, "learning rate", Choices{});
  v("momentum", o.momentum, "of sgd", Choices{});
  v("nesterov", o.nesterov, "Nesterov momentum, for sgd", Choices{});
  v("weight-decay", o.weight_decay, "", Choices{});
  v("clip-norm", o.clip_norm, "scale gradients down to this global norm; 0: never", Choices{});
  v("on-nonfinite", o.on_nonfinite,
    "a step whose loss or gradients are no numbers is never taken; stop there, skip its batch, or rewind to "
    "the last state and go on behind it at half the rate",
    Choices{"stop", "skip", "rewind"});
  v("ema", o.ema,
    "judge and keep the moving average of the weights with this decay (0.999); 0: the weights themselves",
    Choices{});
  v("freeze", o.freeze,
    "leave the parameters of these names as they are, batch norms with their statistics: 'layer1.*'; may be "
    "repeated",
    Choices{});
  v("lr-scale", o.lr_scale,
    "multiply the rate of the parameters of these names: 'layer*=0.1'; may be repeated, the last that fits "
    "counts",
    Choices{});
  v("schedule", o.schedule, "of the learning rate", Choices{"constant", "cosine", "step"});
  v("warmup-epochs", o.warmup_epochs, "the rate rises linearly over these; fractions allowed", Choices{});
  v("step-epochs", o.step_epochs, "schedule step: epochs between drops; 0: a third of all", Choices{});
  v("step-gamma", o.step_gamma, "schedule step: what the rate is multiplied by", Choices{});
  v("loss", o.loss, "cross-entropy or focal loss", Choices{"ce", "focal"});
  v("label-smoothing", o.label_smoothing, "share of the target spread over all classes", Choices{});
  v("focal-gamma", o.focal_gamma, "of the focal loss", Choices{});
  v("precision", o.precision,
    "of activations; auto: bf16 where the device computes it, else fp16 on a GPU, fp32 on the CPU; fp16 and "
    "tf32: CUDA devices only",
    Choices{"auto", "fp32", "tf32", "bf16", "fp16"});
  v("image-size", o.image_size, "side of the square that images are resized to", Choices{});
  v("augment", o.augment, "random changes to training images", Choices{"none", "light", "standard"});
  v("balance", o.balance, "against unequal class sizes: show small classes more often, or weigh them",
    Choices{"none", "oversample", "inverse", "effective"});
  v("protocol", o.protocol, "oversample-first leaks by design: for comparison only",
    Choices{"split-first", "oversample-first"});
  v("near-duplicates", o.near_duplicates,
    "images that look alike: in one part together, or ignored but for equal files",
    Choices{"together", "ignore"});
  v("val-fraction", o.val_fraction, "for validation (default 0.15; oversample-first: 0.2 of what is left)",
    Choices{});
  v("test-fraction", o.test_fraction, "for the test (default 0.15; oversample-first: 0.2)", Choices{});
  v("decode", o.decode, "of training images; fast may decode JPEGs at a smaller scale",
    Choices{"exact", "fast"});
  v("cache-file", o.cache_file, "keep decoded images in this file and in FILE.val, for later runs too",
    Choices{});
  v("resize", o.resize, "to a square", Choices{"stretch", "crop", "pad"});
  v("max-pixels", o.max_pixels, "refuse larger images before decoding", Choices{});
  v("dropout", o.dropout, "in place of the model's own rates", Choices{});
  v("mean", o.mean, "one value or one a channel, subtracted from pixels in 0 ... 1 (default 0.5)", Choices{});
  v("std", o.std, "one value or one a channel, by which they are divided (default 0.5)", Choices{});
  v("seed", o.seed, "of the split, the first weights, the order and the augmentation", Choices{});
  v("no-shuffle", o.no_shuffle, "the part's files in sorted path order, in consecutive batches", Choices{});
  v("checkpoint-every-steps", o.checkpoint_every_steps, "beside every epoch's; 0: never", Choices{});
  v("keep", o.keep, "older states beside the last, to go on from if that is damaged", Choices{});
  v("time-limit", o.time_limit,
    "so long after the start (90s, 55m, 2h) finish the step, save and stop; 0: never", Choices{});
  v("log-every-steps", o.log_every_steps, "a line in metrics.jsonl; 0: epochs only", Choices{});
}
/// "PATTERN=FACTOR". Throws InputError.
struct LrScale {
  std::string pattern;
  float factor = 1;
};
LrScale parse_lr_scale(const std::string& text);
/// Seconds of "90s", "55m" or "2h"; 0 for no text and "0". Throws InputError.
double parse_time_limit(const std::string& text);
/// Adds every option of the table.
void add_train_options(CLI::App& command, TrainOptions& options);
nlohmann::json to_json(const TrainOptions& options);
/// Throws InputError for a value of the wrong type; names that are not there keep their defaults.
TrainOptions train_options_from_json(const nlohmann::json& json);

/// The number written out, for messages: 0.15, not 0.150000.
std::string number_text(double value);

}  // namespace cairn::app
