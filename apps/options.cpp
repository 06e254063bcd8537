#include "apps/options.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <thread>

#include "apps/help_format.h"
#include "apps/plugins.h"
#include "apps/precision.h"
#include "engine/backend.h"
#include "engine/device.h"
#include "kernels/cpu/parallel.h"
#include "kernels/device.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

// Where a new heading of --help begins within the table, by the name of its first option.
constexpr std::pair<std::string_view, const char*> kHeadings[] = {
    {"data", "Files"},
    {"model", "Training"},
    {"image-size", "Images"},
    {"dropout", "Training"},
    {"mean", "Images"},
    {"seed", "Training"},
    {"checkpoint-every-steps", "Saving and logging"},
    {"accumulate", "Pieces and several processes"}};
// What resolve() takes from the model's table where it is not given.
constexpr std::string_view kByModel[] = {"epochs",          "optimizer", "lr",
                                         "weight-decay",    "schedule",  "warmup-epochs",
                                         "label-smoothing", "augment",   "dropout"};

// What the table's options become on the command line.
struct ToCommandLine {
  CLI::App& command;
  const char* heading = "";

  template <class T>
  void operator()(const char* name, T& value, const std::string& help,
                  const std::vector<std::string>& choices) {
    const std::string flag = "--" + std::string(name);
    for (const auto& [first, begins] : kHeadings)
      if (first == name) heading = begins;
    if constexpr (std::is_same_v<T, bool>) {
      command.add_flag(flag, value, help)->group(heading);
    } else {
      CLI::Option* option = command.add_option(flag, value, help)->group(heading);
      if (std::find(std::begin(kByModel), std::end(kByModel), name) != std::end(kByModel))
        option->default_str("by model");
      if constexpr (std::is_same_v<T, std::vector<std::string>>)
        option->allow_extra_args(false);  // one value each time it is given
      else if constexpr (!std::is_same_v<T, std::vector<double>>)
        option->take_last();  // as recipes are amended
      if constexpr (std::is_arithmetic_v<T>) option->capture_default_str();
      if constexpr (std::is_same_v<T, std::string>) {
        if (!value.empty()) option->capture_default_str();
        if (!choices.empty()) option->check(CLI::IsMember(choices));
      }
      if constexpr (std::is_same_v<T, std::vector<double>>) option->expected(1, 3)->delimiter(',');
    }
  }
};

struct ToJson {
  nlohmann::json& json;

  template <class T>
  void operator()(const char* name, const T& value, const char*, const std::vector<std::string>&) {
    json[name] = value;
  }
  template <class T>
  void operator()(const char* name, const std::optional<T>& value, const char*,
                  const std::vector<std::string>&) {
    if (value)
      json[name] = *value;
    else
      json[name] = nullptr;
  }
};

struct FromJson {
  const nlohmann::json& json;

  template <class T>
  void operator()(const char* name, T& value, const char*, const std::vector<std::string>&) {
    if (json.contains(name)) value = json.at(name).get<T>();
  }
  template <class T>
  void operator()(const char* name, std::optional<T>& value, const char*, const std::vector<std::string>&) {
    if (json.contains(name) && !json.at(name).is_null()) value = json.at(name).get<T>();
  }
};

void require(bool ok, const char* option, double value, const char* expected) {
  if (!ok)
    throw InputError("--" + std::string(option) + " is " + number_text(value) + ", expected " + expected);
}

}  // namespace

std::string number_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

void add_output(CLI::App& command, CommonOptions& options) {
  command.add_flag("--quiet", options.quiet, "only warnings, errors and the result")->group(kGeneralGroup);
  command.add_flag("--json", options.json, "the result for machines, on standard output")
      ->group(kGeneralGroup);
}

void add_common(CLI::App& command, CommonOptions& options) {
  command.add_option("--device", options.device, "auto, cpu, cuda[:N] or cuda-emu")
      ->capture_default_str()
      ->group(kGeneralGroup);
  command.add_option("--threads", options.threads, "for compute; 0: all cores")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096))
      ->group(kGeneralGroup);
  command.add_option("--workers", options.workers, "threads that load images; 0: one a core")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096))
      ->group(kGeneralGroup);
  add_output(command, options);
}

Device open_device(const CommonOptions& options, Console& console, std::string* precision) {
  if (options.threads > 0) kernels::set_num_threads(options.threads);
  std::string reason;
  const Device device = parse_device(options.device, &reason);
  const kernels::DeviceApi* api = kernels::device_api(device.type);
  // The CPU's description has its threads; beside a GPU they decode and count.
  std::string line =
      "device: " + to_string(device) + " (" + (api ? api->describe(device.index) : "") + ")" +
      (device.type == DeviceType::cpu ? "" : ", " + std::to_string(compute_threads()) + " threads") + ": " +
      reason;
  if (precision && *precision == "auto") {
    const FastPrecision fast = fast_precision(device);
    *precision = fast.name;
    line += "; computing in " + fast.name + " (" + fast.why + ")";
  } else if (precision) {
    static_cast<void>(precision_dtype(*precision, device));  // refuses before anything is made
    line += "; computing in " + *precision;
  }
  console.say(line);
  if (const std::string warning = slow_kernels_warning(device.type); !warning.empty()) console.warn(warning);
  return device;
}

int compute_threads() { return kernels::num_threads(); }

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const models::ModelInfo& m : models::all_models()) names.emplace_back(m.name);
  return names;
}

void TrainOptions::resolve() {
  load_plugins(plugin);
  const models::TrainingDefaults& d = models::model_info(model).defaults;
  if (optimizer.empty()) optimizer = d.optimizer;
  if (schedule.empty()) schedule = d.schedule;
  if (augment.empty()) augment = d.augment;
  // Under oversample-first the rows of the manifest are balanced already.
  if (balance.empty()) balance = protocol == "oversample-first" ? "none" : "oversample";
  if (!epochs) epochs = d.epochs;
  if (!lr) lr = d.lr;
  if (!weight_decay) weight_decay = d.weight_decay;
  if (!warmup_epochs) warmup_epochs = d.warmup_epochs;
  if (!label_smoothing) label_smoothing = loss == "focal" ? 0.0 : d.label_smoothing;
  if (mean.empty()) mean = {0.5};
  if (std.empty()) std = {0.5};
  for (std::vector<double>* v : {&mean, &std})
    if (v->size() == 1) v->resize(3, v->front());

  const auto whole = [](std::int64_t v) { return static_cast<double>(v); };
  require(*epochs >= 1 && *epochs <= 1'000'000, "epochs", whole(*epochs), "1 or more");
  require(max_steps >= 0, "max-steps", whole(max_steps), "0 or more");
  // 0 is auto, which prepare_memory() resolves.
  require(batch_size >= 0 && batch_size <= 65536, "batch-size", whole(batch_size), "1 to 65536, or auto");
  require(patience >= 0, "patience", whole(patience), "0 or more");
  require(*lr > 0 && *lr < 1e6, "lr", *lr, "more than 0");
  require(momentum >= 0 && momentum < 1, "momentum", momentum, "0 <= m < 1");
  require(*weight_decay >= 0 && *weight_decay < 1e6, "weight-decay", *weight_decay, "0 or more");
  require(clip_norm >= 0, "clip-norm", clip_norm, "0 or more");
  require(ema >= 0 && ema < 1, "ema", ema, "0 <= d < 1");
  for (const std::string& text : lr_scale) static_cast<void>(parse_lr_scale(text));
  require(*warmup_epochs >= 0 && *warmup_epochs <= whole(*epochs), "warmup-epochs", *warmup_epochs,
          "0 to --epochs");
  require(step_epochs >= 0, "step-epochs", whole(step_epochs), "0 or more");
  require(step_gamma > 0 && step_gamma <= 1, "step-gamma", step_gamma, "0 < g <= 1");
  require(*label_smoothing >= 0 && *label_smoothing < 1, "label-smoothing", *label_smoothing, "0 <= e < 1");
  require(focal_gamma >= 0, "focal-gamma", focal_gamma, "0 or more");
  require(image_size >= 1 && image_size <= 4096, "image-size", whole(image_size), "1 to 4096");
  require(max_pixels >= 1, "max-pixels", whole(max_pixels), "1 or more");
  require(checkpoint_every_steps >= 0, "checkpoint-every-steps", whole(checkpoint_every_steps), "0 or more");
  require(keep >= 0 && keep <= 1'000'000, "keep", whole(keep), "0 or more");
  static_cast<void>(parse_duration("time-limit", time_limit));
  require(accumulate >= 1, "accumulate", whole(accumulate), "1 or more");
  if (parse_duration("peer-timeout", peer_timeout) < 2)  // processes beat each second
    throw InputError("--peer-timeout is '" + peer_timeout + "', expected 2s or more");
  require(log_every_steps >= 0, "log-every-steps", whole(log_every_steps), "0 or more");
  if (dropout) require(*dropout >= 0 && *dropout < 1, "dropout", *dropout, "0 <= p < 1");
  if (val_fraction)
    require(*val_fraction >= 0 && *val_fraction < 1, "val-fraction", *val_fraction, "0 <= f < 1");
  if (test_fraction)
    require(*test_fraction >= 0 && *test_fraction < 1, "test-fraction", *test_fraction, "0 <= f < 1");
  if (mean.size() != 3 || std.size() != 3)
    throw InputError("--mean and --std take one value, or three: red, green, blue");
  for (const double s : std) require(s > 0, "std", s, "more than 0");
  if (loss == "focal" && *label_smoothing > 0)
    throw InputError("--loss focal goes without --label-smoothing: leave one of them out");
  if (loss == "focal" && augment == "standard")
    throw InputError("--loss focal goes without mixed images: use --augment light");
}

LrScale parse_lr_scale(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  LrScale scale;
  if (equals != std::string::npos && equals > 0) {
    scale.pattern = text.substr(0, equals);
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + equals + 1, end, scale.factor);
    if (parsed.ec == std::errc() && parsed.ptr == end && scale.factor >= 0 && scale.factor < 1e6f)
      return scale;
  }
  throw InputError("--lr-scale is '" + text + "', expected names and a factor: 'layer*=0.1'");
}

double parse_duration(const std::string& option, const std::string& text) {
  if (text.empty() || text == "0") return 0;
  double value = 0;
  const char* end = text.data() + text.size() - 1;
  const auto parsed = std::from_chars(text.data(), end, value);
  const double unit = *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : 0;
  if (parsed.ec != std::errc() || parsed.ptr != end || unit == 0 || !(value > 0 && value < 1e9))
    throw InputError("--" + option + " is '" + text + "', expected a number and s, m or h: 90s, 55m, 2h");
  return value * unit;
}

void add_train_options(CLI::App& command, TrainOptions& options) {
  visit_train_options(options, ToCommandLine{command});
}

nlohmann::json to_json(const TrainOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  visit_train_options(options, ToJson{json});
  return json;
}

TrainOptions train_options_from_json(const nlohmann::json& json) {
  TrainOptions options;
  try {
    visit_train_options(options, FromJson{json});
  } catch (const nlohmann::json::exception& error) {
    throw InputError("the run's options cannot be read: " + one_line(error.what()));
  }
  return options;
}

}  // namespace cairn::app
