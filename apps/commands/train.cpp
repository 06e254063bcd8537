#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "apps/commands/commands.h"
#include "apps/data_options.h"
#include "apps/exact_json.h"
#include "apps/interim_report.h"
#include "apps/memory_plan.h"
#include "apps/report_page.h"
#include "apps/resume_changes.h"
#include "apps/run_state.h"
#include "apps/trainer.h"
#include "data/atomic_file.h"
#include "data/decode/decode.h"
#include "engine/io/safetensors.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions common;
  TrainOptions train;
  std::string resume;
  bool accept_changes = false;
  int folds = 0;
  int seeds = 1;
};

// A handler may only set a flag; the trainer looks at it after each step.
std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void ask_to_stop(int signal) {
  stop_signal.store(signal);
  // A second one of either stops at once. What was saved stays: files are only ever replaced whole.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

std::string defaults_table() {
  std::string text = "Defaults by model:\n";
  for (const models::ModelInfo& m : models::all_models()) {
    const models::TrainingDefaults& d = m.defaults;
    text +=
        "  " + std::string(m.name) + ": --epochs " + std::to_string(d.epochs) + " --optimizer " +
        std::string(d.optimizer) + " --lr " + number_text(static_cast<double>(d.lr)) + " --weight-decay " +
        number_text(static_cast<double>(d.weight_decay)) + " --schedule " + std::string(d.schedule) +
        " --warmup-epochs " + number_text(static_cast<double>(d.warmup_epochs)) + " --label-smoothing " +
        number_text(static_cast<double>(d.label_smoothing)) + " --augment " + std::string(d.augment) + "\n";
  }
  return text +
         "--balance is oversample, under --protocol oversample-first none.\n"
         "Example: cairn train --data photos --out runs/first";
}

std::string default_out(const std::string& model) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", localtime_r(&now, &parts));
  return "runs/" + model + "-" + stamp;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw Error("cannot read " + path);
  return text.str();
}

// Trains one model on one split into one run directory.
TrainResult run_one(const Options& options, Device device, const data::Dataset& dataset,
                    const data::Manifest& manifest, const std::string& fixes, const RunDir& run,
                    Console& console, const FoundState& state = {}) {
  LearnerSetup learner{.options = options.train,
                       .common = options.common,
                       .device = device,
                       .dataset = dataset,
                       .manifest = manifest,
                       .console = console,
                       .resumed = !state.path.empty()};
  const MemoryPlan plan = prepare_memory(learner);
  const TrainOptions& o = learner.options;
  if (state.path.empty()) {
    data::write_manifest(run.split(), manifest);
    if (!fixes.empty()) data::write_file_atomically(run.fixes(), fixes);
  }
  const ModelCard card = card_of(learner);
  run.write_config(o, card,
                   {{"device", to_string(device)},
                    {"threads", compute_threads()},
                    {"workers", options.common.workers},
                    {"computed_in", computed_in(o.precision, device)},
                    {"memory", plan_json(plan)}});
  InterimReport interim({.run = run, .dataset = dataset, .manifest = manifest, .card = card}, console);
  const TrainSetup setup{learner,
                         read_text(run.split()),
                         fixes,
                         run,
                         state.path,
                         state.progress,
                         &stop_signal,
                         parse_time_limit(o.time_limit),
                         [&](std::int64_t epoch, const Predictions& best) {
                           interim.update(best, {.epoch = epoch, .epochs = *o.epochs});
                         }};
  TrainResult result = within(plan, [&] { return train(setup); });
  if (result.stopped != Stop::none) return result;
  write_report({.run = run,
                .dataset = dataset,
                .manifest = manifest,
                .device = device,
                .workers = options.common.workers,
                .test = result.test ? &result.test_predictions : nullptr},
               console);
  if (result.test)
    console.say("test, of epoch " + std::to_string(result.best_epoch) + ":\n" +
                scores_text(*result.test,
                            score_intervals(result.test_predictions.labels, result.test_predictions.answers(),
                                            static_cast<int>(dataset.classes.size())),
                            dataset.classes));
  console.say("report: " + run.report());
  return result;
}

int stopped(const TrainResult& result, const TrainOptions& o, const RunDir& run) {
  throw Error("stopped " +
              (result.stopped == Stop::signal ? "by a signal" : "at --time-limit " + o.time_limit) +
              ", and saved; go on with: cairn train --resume " + run.path());
}

// --folds K --seeds N: every fold with every seed, each in its own run directory.
int run_folds(Options options, Device device, const CheckedData& checked, const std::string& fixes,
              Console& console) {
  const std::string out = options.train.out;
  const std::uint64_t first_seed = options.train.seed;
  data::SplitOptions how = split_options(options.train.protocol, options.train.val_fraction, {}, first_seed);
  how.near_duplicates = checked.near_duplicates;
  std::vector<data::Split> splits;
  if (options.folds > 1) splits = data::split_folds(checked.dataset, checked.hashes, options.folds, how);
  nlohmann::json results = nlohmann::json::array();
  const int folds = std::max(options.folds, 1);
  for (int fold = 0; fold < folds; ++fold) {
    for (int s = 0; s < options.seeds; ++s) {
      options.train.seed = first_seed + static_cast<std::uint64_t>(s);
      const std::string name = "fold-" + std::to_string(fold) + "-seed-" + std::to_string(options.train.seed);
      const RunDir run = RunDir::create(out + "/" + name);
      options.train.out = run.path();
      console.say("== " + name);
      const data::Manifest manifest =
          splits.empty() ? split_for(options.train, checked, console) : splits[fold].manifest;
      const TrainResult result = run_one(options, device, checked.dataset, manifest, fixes, run, console);
      if (result.stopped != Stop::none) return stopped(result, options.train, run);
      results.push_back(result_json(result));
      results.back()["run"] = run.path();
    }
  }
  console.say("sum them up with: cairn evaluate --run " + out);
  if (options.common.json) console.result(nlohmann::json{{"runs", results}}.dump());
  return 0;
}

int finish(const Options& options, const TrainResult& result, const RunDir& run, Console& console) {
  if (result.stopped != Stop::none) return stopped(result, options.train, run);
  if (options.common.json) {
    nlohmann::json json = result_json(result);
    json["run"] = run.path();
    console.result(json.dump());
  } else {
    console.say("next: cairn evaluate --run " + run.path() + "; cairn predict --run " + run.path() +
                " PHOTO...");
  }
  return 0;
}

int start(Options options, Console& console) {
  TrainOptions& o = options.train;
  if (o.data.empty())
    throw InputError("--data is missing: a folder with one folder of images a class; see cairn train --help");
  if (o.out.empty()) o.out = default_out(o.model);
  RunDir::require_free(o.out);
  const bool many = options.folds > 1 || options.seeds > 1;
  if (many && !o.split.empty())
    throw InputError("--split is one split: leave it out with --folds and --seeds");
  const Device device = open_device(options.common, console);
  adopt_normalization(o, console);
  o.resolve();
  static_cast<void>(choose_precision(o.precision, device));  // refuses before anything is made
  if (o.protocol == "oversample-first")
    console.warn(
        "--protocol oversample-first puts copies of one image in several parts: its accuracies are too high");

  const std::string fixes = read_fixes(o.fixes, false);
  if (o.split.empty()) {
    const CheckedData checked = check_data(
        o.data,
        {fixes, o.max_pixels, options.common.workers, wants_near_duplicates(o.protocol, o.near_duplicates)},
        console);
    if (many) return run_folds(options, device, checked, fixes, console);
    const data::Manifest manifest = split_for(o, checked, console);
    const RunDir run = RunDir::create(o.out);
    console.log_to(run.log());
    say_parts(checked.dataset, manifest, console);
    return finish(options, run_one(options, device, checked.dataset, manifest, fixes, run, console), run,
                  console);
  }
  const data::Dataset dataset = open_fixed_dataset(o.data, fixes, console);
  const data::Manifest manifest = data::read_manifest(o.split);
  data::check_disjoint(manifest);
  const RunDir run = RunDir::create(o.out);
  console.log_to(run.log());
  say_parts(dataset, manifest, console);
  return finish(options, run_one(options, device, dataset, manifest, fixes, run, console), run, console);
}

// "cuda" of "cuda:1": another one of the same kind is the same to a run.
std::string device_kind(const std::string& device) { return device.substr(0, device.find(':')); }

int resume(const CLI::App& command, Options options, Console& console) {
  if (options.folds > 1 || options.seeds > 1)
    throw InputError("--resume goes on with one run: leave out --folds and --seeds");
  const RunDir run = RunDir::open_to_resume(options.resume);
  console.log_to(run.log());
  const FoundState state = find_state(run, console);
  const nlohmann::json& progress = state.progress;
  ResumeChanges changes;
  std::vector<std::string> classes;
  std::string precision, fixes;
  try {
    options.train = changes.merge(command, options.train, progress.at("options"));
    const int threads = progress.at("threads").get<int>();
    if (options.common.threads == 0) options.common.threads = threads;
    changes.setting("--threads", options.common.threads, threads);
    classes = progress.at("classes").get<std::vector<std::string>>();
    precision = progress.at("precision").get<std::string>();
    fixes = exact_text(progress.at("fixes"));
    data::write_file_atomically(run.split(), exact_text(progress.at("manifest")));
  } catch (const nlohmann::json::exception&) {
    throw InputError(state.path + " does not hold a run's state");
  }
  const Device device = open_device(options.common, console);
  if (precision != computed_in(options.train.precision, device))
    throw InputError("the run was computed in " + precision + ", which --precision " +
                     options.train.precision + " is not on " + to_string(device) +
                     ": resume it on the device where it began");
  changes.setting("--device", device_kind(to_string(device)),
                  device_kind(progress.value("device", to_string(device))));
  data::Manifest manifest = data::read_manifest(run.split());
  data::check_disjoint(manifest);
  if (!fixes.empty()) data::write_file_atomically(run.fixes(), fixes);
  const data::Dataset dataset = open_fixed_dataset(options.train.data, fixes, console);
  changes.classes(classes, dataset.classes);
  changes.data(data::update_manifest(manifest, dataset, options.common.workers));
  changes.settle(options.accept_changes, console);
  if (changes.any()) {
    data::check_disjoint(manifest);
    data::write_manifest(run.split(), manifest);
  }
  console.say("resuming " + run.path() + " in epoch " +
              std::to_string(progress.at("epoch").get<std::int64_t>() + 1) + ", batch " +
              std::to_string(progress.at("batch").get<std::int64_t>() + 1));
  return finish(options, run_one(options, device, dataset, manifest, fixes, run, console, state), run,
                console);
}

}  // namespace

Command add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "trains a model on a folder of images");
  const auto options = std::make_shared<Options>();
  add_train_options(*command, options->train);
  offer_auto_batch(*command);
  constexpr const char* kHeading = "One run more, or several";
  command->add_option("--resume", options->resume, "go on with the run in this folder, to the same bits")
      ->group(kHeading);
  command
      ->add_flag("--accept-changes", options->accept_changes,
                 "with --resume: go on though the data or options are not those that the run began with")
      ->group(kHeading);
  command->add_option("--folds", options->folds, "cross-validation: so many runs, each image tested once")
      ->check(CLI::Range(2, 1000))
      ->group(kHeading);
  command->add_option("--seeds", options->seeds, "so many runs (a fold), with seeds from --seed on")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000))
      ->group(kHeading);
  add_common(*command, options->common);
  command->footer(defaults_table());
  return {command, [command, options] {
            Console console(options->common.quiet, options->common.json);
            std::signal(SIGINT, ask_to_stop);
            std::signal(SIGTERM, ask_to_stop);
            std::signal(SIGXFSZ, SIG_IGN);  // a limit on files is then an error as a full disk is
            if (!options->resume.empty()) return resume(*command, *options, console);
            if (options->accept_changes) throw InputError("--accept-changes goes with --resume");
            return start(*options, console);
          }};
}

}  // namespace cairn::app
