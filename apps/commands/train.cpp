#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>

#include "apps/commands/commands.h"
#include "apps/data_options.h"
#include "apps/exact_json.h"
#include "apps/interim_report.h"
#include "apps/memory_plan.h"
#include "apps/processes.h"
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
  bool profile = false;
  distributed::Communicator* processes = nullptr;  // that train together; null: this one trains alone

  /// Of several processes rank 0 alone reads and writes run directories.
  bool writes() const { return !processes || processes->is_first(); }
};

// What a run is made from.
struct Begun {
  data::Dataset dataset;
  data::Manifest manifest;
  std::string fixes;  // text of fixes.csv; may be empty
  RunDir run;
  FoundState state = {};  // of a run that is gone on with
};

// Hands rank 0's to all, which open the data for themselves. Elsewhere `begun` is null. The data is opened
// alike on all: what rank 0 has found damaged is not in the manifest.
Begun share(distributed::Communicator& processes, const TrainOptions& o, const Begun* begun,
            Console& console) {
  std::string text;
  if (begun) {
    std::ostringstream manifest;
    manifest << std::ifstream(begun->run.split(), std::ios::binary).rdbuf();
    text = nlohmann::json{{"run", exact_json(begun->run.path())},
                          {"manifest", exact_json(manifest.str())},
                          {"fixes", exact_json(begun->fixes)},
                          {"resumed", begun->state.path},
                          {"progress", begun->state.progress}}
               .dump();
  }
  const nlohmann::json shared = nlohmann::json::parse(processes.broadcast(text));
  const std::string path = exact_text(shared.at("run")), fixes = exact_text(shared.at("fixes"));
  data::Dataset dataset = open_fixed_dataset(o.data, fixes, console);
  data::Manifest manifest = data::parse_manifest(exact_text(shared.at("manifest")), path + "/split.csv");
  return {std::move(dataset),
          std::move(manifest),
          fixes,
          begun ? begun->run : RunDir::of_rank_0(path),
          {shared.at("resumed").get<std::string>(), shared.at("progress")}};
}

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

// The files that say what a run is made from.
void write_beginning(const Begun& begun) {
  data::write_manifest(begun.run.split(), begun.manifest);
  if (!begun.fixes.empty()) data::write_file_atomically(begun.run.fixes(), begun.fixes);
}

void say_processes(const distributed::Communicator& processes, Console& console) {
  std::vector<std::string> hosts;
  for (int r = 0; r < processes.world(); ++r)
    if (r == 0 || processes.host(r) != processes.host(r - 1)) hosts.push_back(processes.host(r));
  std::string names;
  constexpr std::size_t kMostNamed = 8;
  for (std::size_t i = 0; i < std::min(hosts.size(), kMostNamed); ++i)
    names += (i > 0 ? ", " : "") + hosts[i];
  if (hosts.size() > kMostNamed) names += ", ...";
  console.say(std::to_string(processes.world()) + " processes train together (" + processes.library() +
              ") on " + names);
}

// The memory of what goes through the model at once: this process's part of a batch, or a piece of it.
MemoryPlan prepare_part(LearnerSetup& setup) {
  const std::int64_t parts = setup.options.accumulate * (setup.processes ? setup.processes->world() : 1);
  if (parts == 1) return prepare_memory(setup);
  if (setup.options.batch_size == 0)
    throw InputError("--batch-size auto is for one process and one piece: give the number of images");
  LearnerSetup part = setup;
  part.options.batch_size /= parts;
  return prepare_memory(part);
}

// Trains one model on one split into one run directory.
TrainResult run_one(const Options& options, Device device, const Begun& begun, Console& console) {
  const auto& [dataset, manifest, fixes, run, state] = begun;
  LearnerSetup learner{.options = options.train,
                       .common = options.common,
                       .device = device,
                       .dataset = dataset,
                       .manifest = manifest,
                       .console = console,
                       .resumed = !state.path.empty(),
                       .profile = options.profile,
                       .processes = options.processes};
  const MemoryPlan plan = prepare_part(learner);
  const TrainOptions& o = learner.options;
  if (options.processes) {
    name_run(run.path());
    say_processes(*options.processes, console);
  }
  const ModelCard card = card_of(learner);
  InterimReport interim({.run = run, .dataset = dataset, .manifest = manifest, .card = card}, console);
  std::function<void(std::int64_t, const Predictions&)> after_epoch;
  std::string manifest_text;
  if (options.writes()) {
    run.write_config(o, card,
                     {{"device", to_string(device)},
                      {"threads", compute_threads()},
                      {"workers", options.common.workers},
                      {"processes", options.processes ? options.processes->world() : 1},
                      {"computed_in", o.precision},
                      {"memory", plan_json(plan)}});
    manifest_text = read_text(run.split());
    after_epoch = [&](std::int64_t epoch, const Predictions& best) {
      interim.update(best, {.epoch = epoch, .epochs = *o.epochs});
    };
  }
  const TrainSetup setup{learner,    manifest_text,  fixes,        run,
                         state.path, state.progress, &stop_signal, parse_duration("time-limit", o.time_limit),
                         after_epoch};
  TrainResult result = within(plan, [&] { return train(setup); });
  if (result.stopped != Stop::none || !options.writes()) return result;
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

int stopped(const Options& options, const TrainResult& result, const RunDir& run) {
  if (options.processes) options.processes->close();  // all stop here, in good order
  if (!options.writes()) return 1;
  throw Error(
      "stopped " +
      (result.stopped == Stop::signal ? "by a signal" : "at --time-limit " + options.train.time_limit) +
      ", and saved; go on with: cairn train --resume " + run.path());
}

// Makes the run directory and what says what it is made from.
Begun begin(const TrainOptions& o, data::Dataset dataset, data::Manifest manifest, std::string fixes,
            Console& console, bool log) {
  Begun begun{std::move(dataset), std::move(manifest), std::move(fixes), RunDir::create(o.out)};
  if (log) {
    console.log_to(begun.run.log());
    say_parts(begun.dataset, begun.manifest, console);
  }
  write_beginning(begun);
  return begun;
}

// --folds K --seeds N: every fold with every seed, each in its own run directory. `checked` is null but where
// run directories are written.
int run_folds(Options options, Device device, const CheckedData* checked, const std::string& fixes,
              Console& console) {
  const std::string out = options.train.out;
  const std::uint64_t first_seed = options.train.seed;
  std::vector<data::Split> splits;
  if (checked && options.folds > 1) {
    data::SplitOptions how =
        split_options(options.train.protocol, options.train.val_fraction, {}, first_seed);
    how.near_duplicates = checked->near_duplicates;
    splits = data::split_folds(checked->dataset, checked->hashes, options.folds, how);
  }
  nlohmann::json results = nlohmann::json::array();
  const int folds = std::max(options.folds, 1);
  for (int fold = 0; fold < folds; ++fold) {
    for (int s = 0; s < options.seeds; ++s) {
      options.train.seed = first_seed + static_cast<std::uint64_t>(s);
      const std::string name = "fold-" + std::to_string(fold) + "-seed-" + std::to_string(options.train.seed);
      options.train.out = out + "/" + name;
      console.say("== " + name);
      std::optional<Begun> begun;
      if (checked)
        begun = begin(options.train, checked->dataset,
                      splits.empty() ? split_for(options.train, *checked, console) : splits[fold].manifest,
                      fixes, console, /*log=*/false);
      if (options.processes)
        begun = share(*options.processes, options.train, begun ? &*begun : nullptr, console);
      const TrainResult result = run_one(options, device, *begun, console);
      if (result.stopped != Stop::none) return stopped(options, result, begun->run);
      results.push_back(result_json(result));
      results.back()["run"] = begun->run.path();
    }
  }
  console.say("sum them up with: cairn evaluate --run " + out);
  if (options.common.json) console.result(nlohmann::json{{"runs", results}}.dump());
  return 0;
}

int finish(const Options& options, const TrainResult& result, const RunDir& run, Console& console) {
  if (result.stopped != Stop::none) return stopped(options, result, run);
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

// Trains what was begun, by all processes that there are.
int train_begun(const Options& options, Device device, std::optional<Begun> begun, Console& console) {
  if (options.processes) begun = share(*options.processes, options.train, begun ? &*begun : nullptr, console);
  return finish(options, run_one(options, device, *begun, console), begun->run, console);
}

// What has to be alike in all processes, and what the number of processes asks of the options.
void settle_processes(const Options& options) {
  distributed::Communicator& processes = *options.processes;
  check_parts_of_batch(options.train, processes.world());
  require_same_setting(processes, "cairn's version", CAIRN_VERSION);
  require_same_setting(processes, "--threads", std::to_string(compute_threads()));
}

// Of several processes on one host each takes a GPU of its own.
CommonOptions own_device(const Options& options) {
  CommonOptions common = options.common;
  if (options.processes && common.device == "cuda")
    common.device += ":" + std::to_string(options.processes->local_rank());
  return common;
}

// What `--precision auto` is, rank 0 finds out for all.
Device open_own_device(Options& options, Console& console) {
  const CommonOptions common = own_device(options);
  std::string& precision = options.train.precision;
  if (!options.processes) return open_device(common, console, &precision);
  if (!options.writes()) precision = options.processes->broadcast(std::string_view{});
  const Device device = open_device(common, console, &precision);
  if (options.writes()) static_cast<void>(options.processes->broadcast(std::string_view(precision)));
  return device;
}

int start(Options options, Console& console) {
  TrainOptions& o = options.train;
  if (o.data.empty())
    throw InputError("--data is missing: a folder with one folder of images a class; see cairn train --help");
  if (o.out.empty()) o.out = default_out(o.model);
  if (options.writes()) RunDir::require_free(o.out);
  const bool many = options.folds > 1 || options.seeds > 1;
  if (many && !o.split.empty())
    throw InputError("--split is one split: leave it out with --folds and --seeds");
  const Device device = open_own_device(options, console);
  adopt_normalization(o, console);
  o.resolve();
  check_parts_of_batch(o, 1);
  if (options.processes) settle_processes(options);
  if (o.protocol == "oversample-first")
    console.warn(
        "--protocol oversample-first puts copies of one image in several parts: its accuracies are too high");
  if (!options.writes())
    return many ? run_folds(options, device, nullptr, {}, console)
                : train_begun(options, device, std::nullopt, console);

  const std::string fixes = read_fixes(o.fixes, false);
  if (o.split.empty()) {
    CheckedData checked = check_data(
        o.data,
        {fixes, o.max_pixels, options.common.workers, wants_near_duplicates(o.protocol, o.near_duplicates)},
        console);
    if (many) return run_folds(options, device, &checked, fixes, console);
    data::Manifest manifest = split_for(o, checked, console);
    return train_begun(
        options, device,
        begin(o, std::move(checked.dataset), std::move(manifest), fixes, console, /*log=*/true), console);
  }
  data::Dataset dataset = open_fixed_dataset(o.data, fixes, console);
  data::Manifest manifest = data::read_manifest(o.split);
  data::check_disjoint(manifest);
  return train_begun(options, device,
                     begin(o, std::move(dataset), std::move(manifest), fixes, console, /*log=*/true),
                     console);
}

// "cuda" of "cuda:1": another one of the same kind is the same to a run.
std::string device_kind(const std::string& device) { return device.substr(0, device.find(':')); }

// Those of the run, which rank 0 alone has read.
void share_options(Options& options) {
  const std::string text = options.processes->broadcast(
      nlohmann::json{{"options", to_json(options.train)}, {"threads", options.common.threads}}.dump());
  if (options.writes()) return;
  const nlohmann::json shared = nlohmann::json::parse(text);
  options.train = train_options_from_json(shared.at("options"));
  options.train.resolve();
  options.common.threads = shared.at("threads").get<int>();
}

// Another number of processes sees the same images in the same steps, but rounds its sums otherwise.
bool as_many_processes(const Options& options, const nlohmann::json& progress, Console& console) {
  const int now = options.processes ? options.processes->world() : 1;
  const int then = progress.value("processes", 1);
  if (now != then)
    console.warn("the run was trained by " + std::to_string(then) + " processes, and goes on with " +
                 std::to_string(now) + ": with the same images and steps, but not to the same bits");
  return now == then;
}

int resume(const CLI::App& command, Options options, Console& console) {
  if (options.folds > 1 || options.seeds > 1)
    throw InputError("--resume goes on with one run: leave out --folds and --seeds");
  std::optional<RunDir> run;
  FoundState state;
  const nlohmann::json& progress = state.progress;
  ResumeChanges changes;
  std::vector<std::string> classes;
  std::string precision, fixes;
  if (options.writes()) {
    run = RunDir::open_to_resume(options.resume);
    console.log_to(run->log());
    state = find_state(*run, console);
    try {
      precision = progress.at("precision").get<std::string>();
      nlohmann::json of_run = progress.at("options");
      of_run["precision"] = precision;  // what `auto` was is not asked again
      options.train = changes.merge(command, options.train, of_run);
      const int threads = progress.at("threads").get<int>();
      if (as_many_processes(options, progress, console)) {
        if (options.common.threads == 0) options.common.threads = threads;
        changes.setting("--threads", options.common.threads, threads);
      }
      classes = progress.at("classes").get<std::vector<std::string>>();
      fixes = exact_text(progress.at("fixes"));
      data::write_file_atomically(run->split(), exact_text(progress.at("manifest")));
    } catch (const nlohmann::json::exception&) {
      throw InputError(state.path + " does not hold a run's state");
    }
    if (precision != options.train.precision)
      throw InputError("the run was computed in " + precision + ": leave out --precision " +
                       options.train.precision);
  }
  if (options.processes) share_options(options);
  const Device device = open_own_device(options, console);
  if (options.processes) settle_processes(options);
  if (!options.writes()) return train_begun(options, device, std::nullopt, console);
  changes.setting("--device", device_kind(to_string(device)),
                  device_kind(progress.value("device", to_string(device))));
  data::Manifest manifest = data::read_manifest(run->split());
  data::check_disjoint(manifest);
  if (!fixes.empty()) data::write_file_atomically(run->fixes(), fixes);
  data::Dataset dataset = open_fixed_dataset(options.train.data, fixes, console);
  changes.classes(classes, dataset.classes);
  changes.data(data::update_manifest(manifest, dataset, options.common.workers));
  changes.settle(options.accept_changes, console);
  if (changes.any()) {
    data::check_disjoint(manifest);
    data::write_manifest(run->split(), manifest);
  }
  console.say("resuming " + run->path() + " in epoch " +
              std::to_string(progress.at("epoch").get<std::int64_t>() + 1) + ", batch " +
              std::to_string(progress.at("batch").get<std::int64_t>() + 1));
  return train_begun(options, device,
                     Begun{std::move(dataset), std::move(manifest), fixes, *run, std::move(state)}, console);
}

int train_or_resume(const CLI::App& command, const Options& options, Console& console) {
  if (!options.resume.empty()) return resume(command, options, console);
  if (options.accept_changes) throw InputError("--accept-changes goes with --resume");
  return start(options, console);
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
  command
      ->add_flag("--profile", options->profile,
                 "print what each layer's kernels take in three steps, and keep it as a table and a Chrome "
                 "trace in the run directory")
      ->group(kHeading);
  add_common(*command, options->common);
  command->footer(defaults_table());
  return {
      command, [command, options] {
        Console console(options->common.quiet, options->common.json);
        std::signal(SIGINT, ask_to_stop);
        std::signal(SIGTERM, ask_to_stop);
        std::signal(SIGUSR1, ask_to_stop);  // what mpirun passes on, and batch systems send ahead of the end
        std::signal(SIGXFSZ, SIG_IGN);      // a limit on files is then an error as a full disk is
        const auto processes = join_processes(parse_duration("peer-timeout", options->train.peer_timeout));
        if (!processes) return train_or_resume(*command, *options, console);
        options->processes = processes.get();
        return run_as_process(*processes, [&] {
          if (!processes->is_first()) console.silence();
          say_processes(*processes, console);
          return train_or_resume(*command, *options, console);
        });
      }};
}

}  // namespace cairn::app
