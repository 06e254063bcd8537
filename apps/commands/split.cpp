#include <filesystem>

#include "apps/commands/commands.h"
#include "apps/data_options.h"
#include "data/manifest.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions output;
  std::string data;
  std::string out;
  std::string fixes;
  std::string protocol = "split-first";
  std::string near_duplicates = "together";
  int folds = 0;
  std::optional<double> val_fraction, test_fraction;
  std::uint64_t seed = 0;
  int workers = 0;
  std::int64_t max_pixels = 128'000'000;
};

nlohmann::json write_split(const data::Dataset& dataset, const data::Manifest& manifest,
                           const std::string& path, Console& console) {
  data::check_disjoint(manifest);
  data::write_manifest(path, manifest);
  say_parts(dataset, manifest, console);
  console.say("wrote " + path);
  return {{"out", path},
          {"train", manifest.count(data::Part::train)},
          {"val", manifest.count(data::Part::val)},
          {"test", manifest.count(data::Part::test)}};
}

// split.csv becomes split-fold-0.csv, split-fold-1.csv, ...
int write_folds(const Options& o, const CheckedData& checked, const data::SplitOptions& how,
                Console& console) {
  const std::vector<data::Split> splits = data::split_folds(checked.dataset, checked.hashes, o.folds, how);
  for (const std::string& warning : splits[0].warnings) console.warn(warning);
  const std::filesystem::path out(o.out);
  nlohmann::json results = nlohmann::json::array();
  for (std::size_t fold = 0; fold < splits.size(); ++fold) {
    const std::string name = out.stem().string() + "-fold-" + std::to_string(fold) + out.extension().string();
    results.push_back(
        write_split(checked.dataset, splits[fold].manifest, (out.parent_path() / name).string(), console));
  }
  if (o.output.json) console.result(nlohmann::json{{"folds", results}}.dump());
  return 0;
}

int run(const Options& o) {
  Console console(o.output.quiet, o.output.json);
  const CheckedData checked = check_data(o.data,
                                         {read_fixes(o.fixes, false), o.max_pixels, o.workers,
                                          wants_near_duplicates(o.protocol, o.near_duplicates)},
                                         console);
  data::SplitOptions how = split_options(o.protocol, o.val_fraction, o.test_fraction, o.seed);
  how.near_duplicates = checked.near_duplicates;
  if (o.folds > 0) return write_folds(o, checked, how, console);
  const data::Split split = data::split_dataset(checked.dataset, checked.hashes, how);
  for (const std::string& warning : split.warnings) console.warn(warning);
  const nlohmann::json result = write_split(checked.dataset, split.manifest, o.out, console);
  console.say("next: cairn train --data " + o.data + " --split " + o.out +
              (o.fixes.empty() ? "" : " --fixes " + o.fixes));
  if (o.output.json) console.result(result.dump());
  return 0;
}

}  // namespace

Command add_split(CLI::App& app) {
  CLI::App* command = app.add_subcommand("split", "decides which image is for training, validation and test");
  const auto o = std::make_shared<Options>();
  command->add_option("DATA", o->data, "folder with one folder a class, CSV (path,label), or .tar shards")
      ->required();
  command->add_option("--out", o->out, "manifest to write, e.g. split.csv")->required();
  command->add_option("--fixes", o->fixes,
                      "drop and relabel images as this fixes.csv of `cairn inspect` says");
  command->add_option("--protocol", o->protocol, "oversample-first leaks by design: for comparison only")
      ->capture_default_str()
      ->check(CLI::IsMember({"split-first", "oversample-first"}));
  command
      ->add_option("--near-duplicates", o->near_duplicates,
                   "images that look alike: in one part together, or ignored but for equal files")
      ->capture_default_str()
      ->check(CLI::IsMember({"together", "ignore"}));
  command
      ->add_option("--folds", o->folds,
                   "cross-validation: so many manifests, OUT-fold-0.csv and on; each image is tested once")
      ->check(CLI::Range(2, 1000));
  command->add_option("--val-fraction", o->val_fraction,
                      "default 0.15; oversample-first: 0.2 of what is left");
  command->add_option("--test-fraction", o->test_fraction, "default 0.15; oversample-first: 0.2");
  command->add_option("--seed", o->seed, "another seed, another split")->capture_default_str();
  command->add_option("--workers", o->workers, "threads that read images; 0: one a core")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_option("--max-pixels", o->max_pixels, "refuse larger images before decoding")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_output(*command, o->output);
  command->footer("Example: cairn split photos --out split.csv");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
