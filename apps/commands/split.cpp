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
  std::string protocol = "split-first";
  std::optional<double> val_fraction, test_fraction;
  std::uint64_t seed = 0;
  int workers = 0;
  std::int64_t max_pixels = 128'000'000;
};

int run(const Options& o) {
  Console console(o.output.quiet, o.output.json);
  const CheckedData checked = check_data(o.data, o.max_pixels, o.workers, console);
  data::Split split = data::split_dataset(checked.dataset, checked.hashes,
                                          split_options(o.protocol, o.val_fraction, o.test_fraction, o.seed));
  for (const std::string& warning : split.warnings) console.warn(warning);
  data::write_manifest(o.out, split.manifest);
  say_parts(checked.dataset, split.manifest, console);
  console.say("wrote " + o.out + "; next: cairn train --data " + o.data + " --split " + o.out);
  if (o.output.json)
    console.result(nlohmann::json{{"out", o.out},
                                  {"train", split.manifest.count(data::Part::train)},
                                  {"val", split.manifest.count(data::Part::val)},
                                  {"test", split.manifest.count(data::Part::test)}}
                       .dump());
  return 0;
}

}  // namespace

Command add_split(CLI::App& app) {
  CLI::App* command = app.add_subcommand("split", "decides which image is for training, validation and test");
  const auto o = std::make_shared<Options>();
  command->add_option("DATA", o->data, "folder with one folder a class, CSV (path,label), or .tar shards")
      ->required();
  command->add_option("--out", o->out, "manifest to write, e.g. split.csv")->required();
  command->add_option("--protocol", o->protocol, "oversample-first leaks by design: for comparison only")
      ->capture_default_str()
      ->check(CLI::IsMember({"split-first", "oversample-first"}));
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
