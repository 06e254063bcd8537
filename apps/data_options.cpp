#include "apps/data_options.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "apps/progress.h"
#include "data/dataset/scan.h"
#include "data/duplicates.h"
#include "data/file.h"
#include "data/fixes.h"

namespace cairn::app {

data::Dataset open_fixed_dataset(const std::string& path, const std::string& fixes, Console& console) {
  data::Dataset dataset = data::open_dataset(path);
  for (const std::string& warning : dataset.warnings) console.warn(warning);
  if (fixes.empty()) return dataset;
  const data::FixesDone done = data::apply_fixes(dataset, data::parse_fixes(fixes, "fixes.csv"));
  console.say("fixes: " + std::to_string(done.dropped) + " images dropped, " +
              std::to_string(done.relabelled) + " relabelled" +
              (done.absent > 0 ? ", " + std::to_string(done.absent) + " to drop are not there" : ""));
  return dataset;
}

std::string read_fixes(const std::string& path, bool may_be_absent) {
  if (path.empty() || (may_be_absent && !std::filesystem::exists(path))) return {};
  const std::vector<std::uint8_t> bytes = data::read_file(path);
  return {bytes.begin(), bytes.end()};
}

data::DecodeOptions scan_decoding(std::int64_t max_pixels) {
  return {.mode = data::DecodeMode::fast, .target_size = 2 * data::kLookSide, .max_pixels = max_pixels};
}

CheckedData check_data(const std::string& path, const CheckOptions& check, Console& console) {
  CheckedData checked{
      .dataset = open_fixed_dataset(path, check.fixes, console), .hashes = {}, .near_duplicates = {}};
  Progress progress("reading images", static_cast<std::int64_t>(checked.dataset.items.size()),
                    console.quiet());
  data::ScanOptions options;
  options.decode = scan_decoding(check.max_pixels);
  options.workers = check.workers;
  std::vector<data::Look> looks(check.near_duplicates ? checked.dataset.items.size() : 0);
  if (check.near_duplicates)
    options.visit = [&](std::int64_t item, std::span<const std::uint8_t>, const data::Image& image) {
      looks[item] = data::make_look(image);
    };
  options.progress = [&](std::int64_t done, std::int64_t) { progress.update(done); };
  data::Scan scan = data::scan_dataset(checked.dataset, options);
  progress.finish();
  for (const std::string& warning : scan.warnings) console.warn(warning);
  checked.hashes = std::move(scan.hashes);
  if (!check.near_duplicates) return checked;
  for (std::size_t i = 0; i < scan.kept.size(); ++i) looks[i] = looks[scan.kept[i]];
  looks.resize(scan.kept.size());
  const auto groups = data::find_look_alikes(looks, check.workers);
  checked.near_duplicates = data::joining_pairs(groups);
  if (!groups.empty())
    console.say(
        std::to_string(groups.size()) + (groups.size() == 1 ? " group" : " groups") +
        " of images that look alike, " + std::to_string(groups.size() + checked.near_duplicates.size()) +
        " images in all; each group stays in one part (--near-duplicates ignore: only equal files do)");
  return checked;
}

bool wants_near_duplicates(const std::string& protocol, const std::string& near_duplicates) {
  return protocol != "oversample-first" && near_duplicates == "together";
}

data::SplitOptions split_options(const std::string& protocol, std::optional<double> val_fraction,
                                 std::optional<double> test_fraction, std::uint64_t seed) {
  data::SplitOptions options;
  options.protocol =
      protocol == "oversample-first" ? data::Protocol::oversample_first : data::Protocol::split_first;
  if (val_fraction) options.val_fraction = *val_fraction;
  if (test_fraction) options.test_fraction = *test_fraction;
  options.seed = seed;
  return options;
}

void say_parts(const data::Dataset& dataset, const data::Manifest& manifest, Console& console) {
  std::map<std::string, std::int64_t[3]> counts;
  std::size_t width = 5;
  for (const std::string& name : dataset.classes) width = std::max(width, name.size());
  for (const data::ManifestRow& row : manifest.rows) ++counts[row.label][static_cast<int>(row.part)];
  const auto line = [&](const std::string& name, const std::string& a, const std::string& b,
                        const std::string& c) {
    const auto right = [](const std::string& text) {
      return std::string(text.size() < 8 ? 8 - text.size() : 0, ' ') + text;
    };
    console.say("  " + name + std::string(width - std::min(width, name.size()), ' ') + right(a) + right(b) +
                right(c));
  };
  line("class", "train", "val", "test");
  constexpr std::size_t kMostLines = 30;
  for (std::size_t i = 0; i < std::min(kMostLines, dataset.classes.size()); ++i) {
    const auto& c = counts[dataset.classes[i]];
    line(dataset.classes[i], std::to_string(c[0]), std::to_string(c[1]), std::to_string(c[2]));
  }
  if (dataset.classes.size() > kMostLines)
    console.say("  ... and " + std::to_string(dataset.classes.size() - kMostLines) + " classes more");
  const std::int64_t val = manifest.count(data::Part::val), test = manifest.count(data::Part::test);
  line("all", std::to_string(manifest.count(data::Part::train)), std::to_string(val), std::to_string(test));
  // An accuracy of so few images is uncertain by 14 points and more, either way.
  constexpr std::int64_t kFew = 50;
  const std::int64_t least = val == 0 || test == 0 ? std::max(val, test) : std::min(val, test);
  if (least > 0 && least < kFew)
    console.say(
        "few images to judge by: figures of " + std::to_string(least) + (least == 1 ? " image" : " images") +
        " swing widely; --folds 5 tests every image once, --init starts from weights that have seen more");
}

data::Manifest split_for(const TrainOptions& o, const CheckedData& checked, Console& console) {
  data::SplitOptions how = split_options(o.protocol, o.val_fraction, o.test_fraction, o.seed);
  how.near_duplicates = checked.near_duplicates;
  data::Split split = data::split_dataset(checked.dataset, checked.hashes, how);
  for (const std::string& warning : split.warnings) console.warn(warning);
  data::check_disjoint(split.manifest);
  return std::move(split.manifest);
}

}  // namespace cairn::app
