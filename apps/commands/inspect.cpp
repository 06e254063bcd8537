#include "apps/commands/commands.h"
#include "apps/inspect/inspection.h"
#include "apps/inspect/page.h"
#include "apps/inspect/speed.h"
#include "apps/options.h"
#include "data/atomic_file.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions common;
  std::string data;
  std::string html;
  std::string fixes;
  std::string augment;
  std::string model = "resnet18";
  bool speed = false;
  bool no_near_duplicates = false;
  int image_size = 224;
  std::uint64_t seed = 0;
  std::int64_t max_pixels = 128'000'000;
};

void write_page(const Options& o, const Inspection& inspection, Console& console) {
  PageOptions page{.data = o.data,
                   .decode = {},
                   .workers = o.common.workers,
                   .augment = data::parse_augment(o.augment.empty() ? "none" : o.augment),
                   .image_size = o.image_size,
                   .seed = o.seed};
  page.decode.max_pixels = o.max_pixels;
  data::write_file_atomically(o.html, inspection_page(inspection, page));
  console.say("wrote " + o.html);
}

void write_fixes(const Options& o, const Inspection& inspection, Console& console) {
  const std::vector<data::Fix> fixes = safe_fixes(inspection);
  data::write_file_atomically(o.fixes, data::fixes_text(fixes));
  console.say(
      "wrote " + o.fixes + ": " + std::to_string(fixes.size()) +
      " images to drop (damaged files and further copies); what needs a person's eye is left to --html");
}

int run(const Options& o) {
  Console console(o.common.quiet, o.common.json);
  if (!o.augment.empty() && o.html.empty() && !o.speed)
    throw InputError("--augment shows pictures, or is measured: give --html FILE or --speed as well");
  data::Dataset dataset = data::open_dataset(o.data);
  for (const std::string& warning : dataset.warnings) console.warn(warning);
  const Inspection inspection = inspect(std::move(dataset),
                                        {.max_pixels = o.max_pixels,
                                         .workers = o.common.workers,
                                         .image_size = o.image_size,
                                         .near_duplicates = !o.no_near_duplicates},
                                        console);
  if (!o.html.empty()) write_page(o, inspection, console);
  if (!o.fixes.empty()) write_fixes(o, inspection, console);
  std::optional<SpeedReport> speed;
  if (o.speed)
    speed = measure_speed(inspection.dataset,
                          {.common = o.common,
                           .model = o.model,
                           .augment = data::parse_augment(o.augment.empty() ? "light" : o.augment),
                           .image_size = o.image_size,
                           .max_pixels = o.max_pixels},
                          console);
  if (o.common.json) {
    nlohmann::json json = inspection_json(inspection);
    if (speed) json["speed"] = speed_json(*speed);
    console.result(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  console.result(o.data + ": " + std::to_string(inspection.dataset.items.size()) + " images in " +
                 std::to_string(inspection.dataset.classes.size()) + " classes");
  std::string text = inspection_text(inspection) + (speed ? speed_text(*speed) : "");
  text.pop_back();
  console.result(text);
  return 0;
}

}  // namespace

Command add_inspect(CLI::App& app) {
  CLI::App* command = app.add_subcommand("inspect", "says what is in a data set, and what is wrong with it");
  const auto o = std::make_shared<Options>();
  command->add_option("DATA", o->data, "folder with one folder a class, CSV (path,label), or .tar shards")
      ->required();
  command->add_option("--html", o->html,
                      "write a page that shows the images in question, to tick and correct");
  command->add_option("--fixes", o->fixes,
                      "write a fixes.csv that drops damaged files and further copies, for train --fixes");
  command->add_option("--augment", o->augment, "on the page: what training sees; with --speed: measure it")
      ->check(CLI::IsMember({"none", "light", "standard"}));
  command->add_flag("--speed", o->speed,
                    "measure how fast these images can be loaded, and what limits training");
  command->add_option("--model", o->model, "--speed: the model that would be trained")
      ->capture_default_str()
      ->check(CLI::IsMember(model_names()));
  command->add_flag("--no-near-duplicates", o->no_near_duplicates,
                    "do not look for images that look alike (quadratic: a minute at some 200,000 images)");
  command->add_option("--image-size", o->image_size, "side of the square that training resizes to")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command->add_option("--seed", o->seed, "of the augmentation shown")->capture_default_str();
  command->add_option("--max-pixels", o->max_pixels, "count larger images as damaged")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_common(*command, o->common);
  command->footer("Example: cairn inspect photos --html photos.html");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
