#include "apps/inspect/inspection.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "apps/data_options.h"
#include "apps/progress.h"
#include "data/duplicates.h"

namespace cairn::app {
namespace {

constexpr std::size_t kMostListed = 20;  // of each finding; the rest is in --json and --html

bool labels_differ(const data::Dataset& dataset, const Items& group) {
  return std::any_of(group.begin(), group.end(), [&](std::int64_t item) {
    return dataset.items[item].label != dataset.items[group[0]].label;
  });
}

void find_copies(const std::vector<std::string>& hashes, Inspection& result) {
  std::map<std::string, Items> groups;
  for (std::size_t i = 0; i < hashes.size(); ++i) groups[hashes[i]].push_back(static_cast<std::int64_t>(i));
  for (const auto& [hash, items] : groups) {
    if (items.size() < 2) continue;
    (labels_differ(result.dataset, items) ? result.conflicts : result.copies).push_back(items);
  }
  for (std::vector<Items>* found : {&result.copies, &result.conflicts})
    std::sort(found->begin(), found->end());
}

// Groups that are more than copies of one file.
void find_look_alikes(const std::vector<data::Look>& looks, const std::vector<std::string>& hashes,
                      int workers, Inspection& result) {
  for (const Items& group : data::find_look_alikes(looks, workers)) {
    std::set<std::string> contents;
    for (const std::int64_t item : group) contents.insert(hashes[item]);
    if (contents.size() < 2) continue;
    (labels_differ(result.dataset, group) ? result.alike_conflicts : result.look_alikes).push_back(group);
  }
}

struct Quantiles {
  std::int64_t least, median, most;
};
Quantiles quantiles_of(const Inspection& inspection,
                       const std::function<std::int64_t(const ImageFacts&)>& value) {
  std::vector<std::int64_t> values;
  for (const ImageFacts& f : inspection.facts) values.push_back(value(f));
  if (values.empty()) return {0, 0, 0};
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

std::map<std::string, std::int64_t> counts_of(const Inspection& inspection,
                                              const std::function<std::string(const ImageFacts&)>& name) {
  std::map<std::string, std::int64_t> counts;
  for (const ImageFacts& f : inspection.facts) ++counts[name(f)];
  return counts;
}

std::string format_of(const ImageFacts& f) { return data::to_string(f.stored.format); }
std::string mode_of(const ImageFacts& f) {
  return f.stored.color_mode +
         (f.stored.bit_depth == 8 ? "" : " " + std::to_string(f.stored.bit_depth) + "-bit");
}

std::string counts_text(const std::map<std::string, std::int64_t>& counts) {
  std::string text;
  for (const auto& [name, n] : counts) text += (text.empty() ? "" : ", ") + std::to_string(n) + " " + name;
  return text;
}

nlohmann::json groups_json(const data::Dataset& dataset, const std::vector<Items>& groups) {
  nlohmann::json json = nlohmann::json::array();
  for (const Items& group : groups) {
    json.push_back(nlohmann::json::array());
    for (const std::int64_t item : group) json.back().push_back(dataset.items[item].path);
  }
  return json;
}

nlohmann::json sides_json(const Inspection& inspection, const Items& items) {
  nlohmann::json json = nlohmann::json::array();
  for (const std::int64_t item : items)
    json.push_back({{"path", inspection.dataset.items[item].path},
                    {"width", inspection.facts[item].width},
                    {"height", inspection.facts[item].height}});
  return json;
}

}  // namespace

Inspection inspect(data::Dataset dataset, const InspectSettings& settings, Console& console) {
  Inspection result;
  std::vector<ImageFacts> facts(dataset.items.size());
  std::vector<data::Look> looks(settings.near_duplicates ? dataset.items.size() : 0);
  Progress progress("reading images", static_cast<std::int64_t>(dataset.items.size()), console.quiet());
  data::ScanOptions options;
  options.decode = scan_decoding(settings.max_pixels);
  options.workers = settings.workers;
  options.allow_empty_classes = true;
  options.progress = [&](std::int64_t done, std::int64_t) { progress.update(done); };
  options.visit = [&](std::int64_t item, std::span<const std::uint8_t> bytes, const data::Image& image) {
    ImageFacts& f = facts[item];
    f.stored = data::probe_image(bytes, dataset.items[item].path);
    f.width = f.stored.width;
    f.height = f.stored.height;
    if (f.stored.exif_orientation > 4) std::swap(f.width, f.height);
    f.bytes = static_cast<std::int64_t>(bytes.size());
    if (settings.near_duplicates) looks[item] = data::make_look(image);
  };
  data::Scan scan = data::scan_dataset(dataset, options);
  progress.finish();
  for (std::size_t i = 0; i < scan.kept.size(); ++i) {
    facts[i] = facts[scan.kept[i]];
    if (settings.near_duplicates) looks[i] = looks[scan.kept[i]];
  }
  facts.resize(scan.kept.size());
  looks.resize(settings.near_duplicates ? scan.kept.size() : 0);

  result.dataset = std::move(dataset);
  result.facts = std::move(facts);
  result.damaged = std::move(scan.damaged);
  find_copies(scan.hashes, result);
  find_look_alikes(looks, scan.hashes, settings.workers, result);
  result.smallest_side = settings.image_size / 4;
  for (std::size_t i = 0; i < result.facts.size(); ++i) {
    const ImageFacts& f = result.facts[i];
    const auto [shorter, longer] = std::minmax(f.width, f.height);
    const auto item = static_cast<std::int64_t>(i);
    if (f.stored.exif_orientation > 1) result.turned.push_back(item);
    if (shorter < result.smallest_side) result.small.push_back(item);
    if (longer > kExtremeShape * std::int64_t{shorter}) result.extreme.push_back(item);
  }
  return result;
}

std::vector<data::Fix> safe_fixes(const Inspection& inspection) {
  std::vector<data::Fix> fixes;
  for (const data::DamagedFile& file : inspection.damaged) fixes.push_back({file.path, ""});
  for (const Items& group : inspection.copies) {
    for (std::size_t i = 1; i < group.size(); ++i)
      fixes.push_back({inspection.dataset.items[group[i]].path, ""});
  }
  return fixes;
}

nlohmann::json inspection_json(const Inspection& inspection) {
  const data::Dataset& dataset = inspection.dataset;
  const auto range = [&](const std::function<std::int64_t(const ImageFacts&)>& value) {
    const Quantiles q = quantiles_of(inspection, value);
    return nlohmann::json{{"min", q.least}, {"median", q.median}, {"max", q.most}};
  };
  nlohmann::json json = {{"images", dataset.items.size()},
                         {"classes", nlohmann::json::array()},
                         {"formats", counts_of(inspection, format_of)},
                         {"color_modes", counts_of(inspection, mode_of)},
                         {"width", range([](const ImageFacts& f) { return f.width; })},
                         {"height", range([](const ImageFacts& f) { return f.height; })},
                         {"bytes", range([](const ImageFacts& f) { return f.bytes; })},
                         {"damaged", nlohmann::json::array()},
                         {"ignored_files", dataset.ignored_files},
                         {"duplicates", groups_json(dataset, inspection.copies)},
                         {"label_conflicts", groups_json(dataset, inspection.conflicts)},
                         {"near_duplicates", groups_json(dataset, inspection.look_alikes)},
                         {"near_label_conflicts", groups_json(dataset, inspection.alike_conflicts)},
                         {"exif_turned", groups_json(dataset, {inspection.turned})[0]},
                         {"small", sides_json(inspection, inspection.small)},
                         {"extreme_shapes", sides_json(inspection, inspection.extreme)}};
  const std::vector<std::int64_t> counts = dataset.class_counts();
  for (std::size_t c = 0; c < counts.size(); ++c)
    json["classes"].push_back({{"name", dataset.classes[c]}, {"images", counts[c]}});
  for (const data::DamagedFile& f : inspection.damaged)
    json["damaged"].push_back({{"path", f.path}, {"reason", f.reason}});
  return json;
}

std::string inspection_text(const Inspection& inspection) {
  const data::Dataset& dataset = inspection.dataset;
  std::string text;
  const std::vector<std::int64_t> counts = dataset.class_counts();
  for (std::size_t c = 0; c < counts.size(); ++c)
    text += "  " + one_line(dataset.classes[c]) + ": " + std::to_string(counts[c]) + "\n";
  if (!counts.empty()) {
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    if (*least > 0 && *most >= 3 * *least)
      text += "  the largest class has " + std::to_string(*most / *least) +
              " times the images of the smallest: train balances them (--balance)\n";
  }
  text += "formats: " + counts_text(counts_of(inspection, format_of)) + "\n";
  text += "colours: " + counts_text(counts_of(inspection, mode_of)) + "\n";
  const auto range = [&](const char* name, const std::function<std::int64_t(const ImageFacts&)>& value) {
    const Quantiles q = quantiles_of(inspection, value);
    text += std::string(name) + ": " + std::to_string(q.least) + " to " + std::to_string(q.most) +
            ", median " + std::to_string(q.median) + "\n";
  };
  range("width", [](const ImageFacts& f) { return f.width; });
  range("height", [](const ImageFacts& f) { return f.height; });
  range("bytes", [](const ImageFacts& f) { return f.bytes; });

  const auto list = [&](const std::string& title, std::size_t n,
                        const std::function<std::string(std::size_t)>& line) {
    text += title + ": " + std::to_string(n) + "\n";
    for (std::size_t i = 0; i < std::min(n, kMostListed); ++i) text += "  " + one_line(line(i)) + "\n";
    if (n > kMostListed) text += "  ... and " + std::to_string(n - kMostListed) + " more (--json, --html)\n";
  };
  const auto list_groups = [&](const std::string& title, const std::vector<Items>& groups) {
    list(title, groups.size(), [&](std::size_t i) {
      std::string line;
      for (const std::int64_t item : groups[i]) line += (line.empty() ? "" : " ") + dataset.items[item].path;
      return line;
    });
  };
  const auto list_sides = [&](const std::string& title, const Items& items) {
    list(title, items.size(), [&](std::size_t i) {
      const ImageFacts& f = inspection.facts[items[i]];
      return dataset.items[items[i]].path + " (" + std::to_string(f.width) + " x " +
             std::to_string(f.height) + ")";
    });
  };
  list("damaged files", inspection.damaged.size(),
       [&](std::size_t i) { return inspection.damaged[i].path + ": " + inspection.damaged[i].reason; });
  list_groups("images under two labels", inspection.conflicts);
  list_groups("images that look alike under two labels", inspection.alike_conflicts);
  list_groups("images that are there more than once", inspection.copies);
  list_groups("images that look alike", inspection.look_alikes);
  list("images turned by EXIF", inspection.turned.size(),
       [&](std::size_t i) { return dataset.items[inspection.turned[i]].path; });
  list_sides("images with a side below " + std::to_string(inspection.smallest_side) + " pixels",
             inspection.small);
  list_sides("images more than " + std::to_string(kExtremeShape) + " times as long as wide",
             inspection.extreme);
  return text;
}

}  // namespace cairn::app
