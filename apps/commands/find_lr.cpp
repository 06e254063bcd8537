#include "apps/commands/commands.h"
#include "apps/data_options.h"
#include "apps/lr_finder.h"
#include "apps/memory_plan.h"
#include "data/atomic_file.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions common;
  TrainOptions train;
  LrRange range;
  std::string html;
};

int find(Options options, Console& console) {
  TrainOptions& o = options.train;
  if (o.data.empty()) throw InputError("--data is missing; see cairn find-lr --help");
  const Device device = open_device(options.common, console, &o.precision);
  adopt_normalization(o, console);
  o.resolve();
  const std::string fixes = read_fixes(o.fixes, false);
  data::Dataset dataset;
  data::Manifest manifest;
  if (o.split.empty()) {
    CheckedData checked = check_data(
        o.data,
        {fixes, o.max_pixels, options.common.workers, wants_near_duplicates(o.protocol, o.near_duplicates)},
        console);
    manifest = split_for(o, checked, console);
    dataset = std::move(checked.dataset);
  } else {
    dataset = open_fixed_dataset(o.data, fixes, console);
    manifest = data::read_manifest(o.split);
  }
  LearnerSetup setup{.options = o,
                     .common = options.common,
                     .device = device,
                     .dataset = dataset,
                     .manifest = manifest,
                     .console = console};
  const MemoryPlan plan = prepare_memory(setup);
  const LrSearch search = within(plan, [&] { return find_lr(setup, options.range); });
  if (!options.html.empty()) {
    data::write_file_atomically(options.html, lr_page(search, o.model + " on " + o.data));
    console.say("curve: " + options.html);
  }
  if (options.common.json) {
    nlohmann::json points = nlohmann::json::array();
    for (const LrPoint& p : search.points)
      points.push_back({{"lr", p.lr}, {"loss", p.loss}, {"smoothed", p.smoothed}});
    nlohmann::json json = {{"points", points}};
    for (const auto& [name, lr] :
         {std::pair{"steepest", search.steepest}, std::pair{"at_minimum", search.at_minimum},
          std::pair{"suggested", search.suggested}})
      json[name] = search.suggested > 0 ? nlohmann::json(lr) : nlohmann::json();
    console.result(json.dump());
  } else if (search.suggested > 0) {
    console.result("the loss falls fastest at " + number_text(search.steepest) + " and is least at " +
                   number_text(search.at_minimum) + "; suggested: --lr " + number_text(search.suggested));
  }
  if (!(search.suggested > 0))
    throw Error("the loss never fell in " + std::to_string(search.points.size()) + " steps from rate " +
                number_text(options.range.from) +
                " on: try a lower --from, more --steps, or look at the data");
  return 0;
}

}  // namespace

Command add_find_lr(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("find-lr", "raises the learning rate until the loss explodes, and suggests one");
  const auto options = std::make_shared<Options>();
  command->add_option("--from", options->range.from, "the first rate")->capture_default_str();
  command->add_option("--to", options->range.to, "the last rate")->capture_default_str();
  command->add_option("--steps", options->range.steps, "steps of training from one to the other")
      ->capture_default_str();
  command->add_option("--html", options->html, "draw the curve into this file");
  add_train_options(*command, options->train);
  offer_auto_batch(*command);
  // Taken, so that a command of train can be asked about as it is, but without effect here.
  for (const char* name : {"--out", "--patience", "--max-steps", "--checkpoint-every-steps", "--keep",
                           "--time-limit", "--log-every-steps"})
    command->get_option(name)->group("");
  add_common(*command, options->common);
  command->footer(
      "Takes the options of cairn train, so that the rate is that of the same model, data and optimiser; "
      "nothing "
      "is kept of the training.\n"
      "Example: cairn find-lr --data photos --model resnet18 --html lr.html");
  return {command, [options] {
            Console console(options->common.quiet, options->common.json);
            return find(*options, console);
          }};
}

}  // namespace cairn::app
