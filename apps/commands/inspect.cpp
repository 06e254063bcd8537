#include <map>

#include "apps/commands/commands.h"
#include "apps/options.h"
#include "apps/progress.h"
#include "data/dataset/dataset.h"
#include "data/dataset/scan.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

struct Options {
  CommonOptions output;
  std::string data;
  int workers = 0;
  std::int64_t max_pixels = 128'000'000;
};

// Paths that hold the same bytes; those whose labels differ are apart.
struct Copies {
  std::vector<std::vector<std::int64_t>> same_label, other_label;
};

Copies find_copies(const data::Dataset& dataset, const std::vector<std::string>& hashes) {
  std::map<std::string, std::vector<std::int64_t>> groups;
  for (std::size_t i = 0; i < hashes.size(); ++i) groups[hashes[i]].push_back(static_cast<std::int64_t>(i));
  Copies copies;
  for (const auto& [hash, items] : groups) {
    if (items.size() < 2) continue;
    bool differ = false;
    for (const std::int64_t item : items)
      differ = differ || dataset.items[item].label != dataset.items[items[0]].label;
    (differ ? copies.other_label : copies.same_label).push_back(items);
  }
  return copies;
}

nlohmann::json paths_json(const data::Dataset& dataset,
                          const std::vector<std::vector<std::int64_t>>& groups) {
  nlohmann::json json = nlohmann::json::array();
  for (const auto& group : groups) {
    nlohmann::json paths = nlohmann::json::array();
    for (const std::int64_t item : group) paths.push_back(dataset.items[item].path);
    json.push_back(paths);
  }
  return json;
}

int run(const Options& o) {
  Console console(o.output.quiet, o.output.json);
  data::Dataset dataset = data::open_dataset(o.data);
  for (const std::string& warning : dataset.warnings) console.warn(warning);
  Progress progress("reading images", static_cast<std::int64_t>(dataset.items.size()), console.quiet());
  data::ScanOptions options;
  options.decode.max_pixels = o.max_pixels;
  options.workers = o.workers;
  options.progress = [&](std::int64_t done, std::int64_t) { progress.update(done); };
  const data::Scan scan = data::scan_dataset(dataset, options);
  progress.finish();
  const Copies copies = find_copies(dataset, scan.hashes);
  const std::vector<std::int64_t> counts = dataset.class_counts();
  if (o.output.json) {
    nlohmann::json json = {{"images", dataset.items.size()},
                           {"classes", nlohmann::json::array()},
                           {"damaged", nlohmann::json::array()},
                           {"ignored_files", dataset.ignored_files},
                           {"duplicates", paths_json(dataset, copies.same_label)},
                           {"label_conflicts", paths_json(dataset, copies.other_label)}};
    for (std::size_t c = 0; c < counts.size(); ++c)
      json["classes"].push_back({{"name", dataset.classes[c]}, {"images", counts[c]}});
    for (const data::DamagedFile& f : scan.damaged)
      json["damaged"].push_back({{"path", f.path}, {"reason", f.reason}});
    console.result(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  console.result(o.data + ": " + std::to_string(dataset.items.size()) + " images in " +
                 std::to_string(dataset.classes.size()) + " classes");
  for (std::size_t c = 0; c < counts.size(); ++c)
    console.result("  " + dataset.classes[c] + ": " + std::to_string(counts[c]));
  console.result("damaged files: " + std::to_string(scan.damaged.size()));
  for (const data::DamagedFile& f : scan.damaged) console.result("  " + one_line(f.path + ": " + f.reason));
  const auto list = [&](const std::string& title, const std::vector<std::vector<std::int64_t>>& groups) {
    console.result(title + ": " + std::to_string(groups.size()));
    for (const auto& group : groups) {
      std::string line = " ";
      for (const std::int64_t item : group) line += " " + dataset.items[item].path;
      console.result(one_line(line));
    }
  };
  list("images that lie there more than once", copies.same_label);
  list("images under two labels", copies.other_label);
  return 0;
}

}  // namespace

Command add_inspect(CLI::App& app) {
  CLI::App* command = app.add_subcommand("inspect", "says what is in a data set, and what is wrong with it");
  const auto o = std::make_shared<Options>();
  command->add_option("DATA", o->data, "folder with one folder a class, CSV (path,label), or .tar shards")
      ->required();
  command->add_option("--workers", o->workers, "threads that read images; 0: one a core")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_option("--max-pixels", o->max_pixels, "count larger images as damaged")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  add_output(*command, o->output);
  command->footer("Example: cairn inspect photos");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
