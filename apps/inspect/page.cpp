#include "apps/inspect/page.h"

#include <algorithm>
#include <set>

#include "apps/assets/assets.h"
#include "apps/html.h"
#include "apps/thumbnail.h"
#include "data/parallel.h"
#include "data/resize.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr std::size_t kMostImages = 200;  // of a finding: some 4 KB each
constexpr int kAugmentedImages = 8, kAugmentedVersions = 7;

std::string shown(const std::string& text) { return html_escaped(valid_utf8(text)); }

class Page {
 public:
  Page(const Inspection& inspection, const PageOptions& options)
      : inspection_(inspection), options_(options) {
    for (const data::Fix& fix : safe_fixes(inspection)) ticked_.insert(fix.path);
  }

  std::string write() {
    html_ =
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><title>cairn inspect " +
        shown(options_.data) + "</title><style>" + std::string(assets::page_css) +
        "</style></head><body><h1>" + shown(options_.data) + "</h1>";
    write_classes();
    write_damaged();
    write_groups("Images under two labels",
                 "One file, several classes: tick the wrong ones, or correct the label.",
                 inspection_.conflicts);
    write_groups("Images that look alike under two labels", "Look closely: one of the labels may be wrong.",
                 inspection_.alike_conflicts);
    write_groups("Images that are there more than once", "All but the first of each are ticked.",
                 inspection_.copies);
    write_groups("Images that look alike",
                 "Resized, recompressed, cropped or brightened copies; the split keeps them in one part.",
                 inspection_.look_alikes);
    write_images("Images turned by EXIF", "They are shown, and trained on, upright.", inspection_.turned);
    write_images("Small images",
                 "A side below " + std::to_string(inspection_.smallest_side) +
                     " pixels: they are enlarged more than four times.",
                 inspection_.small);
    write_images(
        "Extreme shapes",
        "More than " + std::to_string(kExtremeShape) +
            " times as long as wide: squeezed to a square they are hard to recognise (--resize pad keeps "
            "their shape).",
        inspection_.extreme);
    if (options_.augment != data::Augment::none) write_augmented();
    html_ += "<datalist id=\"classes\">";
    for (const std::string& name : inspection_.dataset.classes)
      html_ += "<option value=\"" + shown(name) + "\">";
    html_ +=
        "</datalist><footer><a id=\"save\" download=\"fixes.csv\">Save fixes.csv</a> (images chosen: <span "
        "id=\"count\">0</span>); then: cairn train --data ... --fixes fixes.csv</footer><script>";
    return html_ + std::string(assets::fixes_js) + "writeFixes();</script></body></html>\n";
  }

 private:
  void write_classes() {
    const std::vector<std::int64_t> counts = inspection_.dataset.class_counts();
    html_ += "<p>" + std::to_string(inspection_.dataset.items.size()) + " images in " +
             std::to_string(counts.size()) + " classes, " + std::to_string(inspection_.damaged.size()) +
             " damaged files.</p><table><tr><th>class</th><th>images</th><th></th></tr>";
    const std::int64_t most =
        counts.empty() ? 1 : std::max<std::int64_t>(1, *std::max_element(counts.begin(), counts.end()));
    for (std::size_t c = 0; c < counts.size(); ++c)
      html_ += "<tr><td>" + shown(inspection_.dataset.classes[c]) + "</td><td>" + std::to_string(counts[c]) +
               "</td><td class=\"bar\"><div style=\"width:" + std::to_string(100 * counts[c] / most) +
               "%\"></div></td></tr>";
    html_ += "</table><details><summary>Sizes, formats, colours</summary><pre>" +
             shown(inspection_text(inspection_)) + "</pre></details>";
  }

  std::string controls(const std::string& path, const std::string& label, bool with_label) const {
    std::string html = "<label><input type=\"checkbox\" class=\"drop\"" +
                       std::string(ticked_.contains(path) ? " checked" : "") + "> drop</label>";
    if (with_label)
      html += "<input type=\"text\" list=\"classes\" aria-label=\"label\" value=\"" + shown(label) + "\">";
    return html;
  }

  void write_title(const std::string& title, const std::string& text, std::size_t n) {
    html_ += "<h2>" + title + " (" + std::to_string(n) + ")</h2>";
    if (n > 0) html_ += "<p>" + text + "</p>";
  }

  void write_damaged() {
    write_title("Damaged files", "They are left out of training; ticked, they are no longer mentioned.",
                inspection_.damaged.size());
    html_ += "<div class=\"group\"" + std::string(inspection_.damaged.empty() ? " hidden" : "") + ">";
    for (const data::DamagedFile& file : inspection_.damaged)
      html_ += "<figure data-path=\"" + shown(file.path) + "\"><figcaption>" + shown(file.path) + "<br>" +
               shown(file.reason) + "</figcaption>" + controls(file.path, "", false) + "</figure>";
    html_ += "</div>";
  }

  void write_figures(const Items& items) {
    std::vector<std::string> tags(items.size());
    data::parallel_for(static_cast<std::int64_t>(items.size()), options_.workers, [&](std::int64_t i) {
      try {
        tags[i] = image_tag(thumbnail(load_image(inspection_.dataset, items[i], options_.decode)));
      } catch (const InputError& error) {  // gone since it was read
        tags[i] = shown(error.what());
      }
    });
    html_ += "<div class=\"group\">";
    for (std::size_t i = 0; i < items.size(); ++i) {
      const data::Item& item = inspection_.dataset.items[items[i]];
      const ImageFacts& f = inspection_.facts[items[i]];
      const std::string label = item.label < 0 ? "" : inspection_.dataset.classes[item.label];
      html_ += "<figure data-path=\"" + shown(item.path) + "\" data-label=\"" + shown(label) + "\">" +
               tags[i] + "<figcaption>" + shown(item.path) + "<br>" + std::to_string(f.width) + " x " +
               std::to_string(f.height) + ", " + data::to_string(f.stored.format) + "</figcaption>" +
               controls(item.path, label, true) + "</figure>";
    }
    html_ += "</div>";
  }

  void write_left_out(std::size_t left_out) {
    if (left_out > 0)
      html_ +=
          "<p>" + std::to_string(left_out) + " more are not shown here; cairn inspect --json lists them.</p>";
  }

  void write_groups(const std::string& title, const std::string& text, const std::vector<Items>& groups) {
    write_title(title, text, groups.size());
    std::size_t written = 0, images = 0;
    for (; written < groups.size() && images < kMostImages; ++written) {
      Items group = groups[written];
      group.resize(std::min(group.size(), kMostImages));
      images += group.size();
      write_figures(group);
    }
    write_left_out(groups.size() - written);
  }

  void write_images(const std::string& title, const std::string& text, const Items& items) {
    write_title(title, text, items.size());
    if (items.empty()) return;
    const Items first(items.begin(),
                      items.begin() + static_cast<std::int64_t>(std::min(items.size(), kMostImages)));
    write_figures(first);
    write_left_out(items.size() - first.size());
  }

  // Images from all over the set, each as the first epochs would see it; where pairs are mixed, neighbours
  // are.
  void write_augmented() {
    const auto n = static_cast<std::int64_t>(inspection_.dataset.items.size());
    const int size = options_.image_size, source_size = data::augment_source_size(options_.augment, size);
    const int images = static_cast<int>(std::min<std::int64_t>(kAugmentedImages, n));
    const std::size_t pixels = std::size_t{3} * size * size;
    std::vector<std::vector<data::Image>> rows(images, std::vector<data::Image>(kAugmentedVersions + 1));
    std::vector<std::string> names(images);
    data::parallel_for(images, options_.workers, [&](std::int64_t i) {
      const std::int64_t item = n * i / images;
      const data::Image image = load_image(inspection_.dataset, item, options_.decode);
      names[i] = inspection_.dataset.items[item].path;
      std::vector<std::uint8_t> source(std::size_t{3} * source_size * source_size);
      data::resize_image(image, data::ResizeMode::stretch, source_size, source.data());
      for (data::Image& version : rows[i]) version = {size, size, std::vector<std::uint8_t>(pixels)};
      data::resize_image(image, data::ResizeMode::stretch, size, rows[i][0].rgb.data());
      for (int v = 1; v <= kAugmentedVersions; ++v)
        data::augment_image(options_.augment, source.data(), rows[i][v].rgb.data(), size,
                            {options_.seed, v - 1, i});
    });
    if (data::augment_mixes(options_.augment)) {
      for (int i = 0; i + 1 < images; i += 2) {
        for (int v = 1; v <= kAugmentedVersions; ++v)
          data::mix_pair(rows[i][v].rgb.data(), rows[i + 1][v].rgb.data(), size, {options_.seed, v - 1, i});
      }
    }
    html_ += "<h2>What training sees with --augment " + std::string(data::augment_name(options_.augment)) +
             "</h2><p>First the image itself, then " + std::to_string(kAugmentedVersions) +
             " epochs of it.</p>";
    for (int i = 0; i < images; ++i) {
      html_ += "<div class=\"group versions\" title=\"" + shown(names[i]) + "\">";
      for (const data::Image& version : rows[i]) html_ += image_tag(version);
      html_ += "</div>";
    }
  }

  const Inspection& inspection_;
  const PageOptions& options_;
  std::set<std::string> ticked_;
  std::string html_;
};

}  // namespace

std::string inspection_page(const Inspection& inspection, const PageOptions& options) {
  return Page(inspection, options).write();
}

}  // namespace cairn::app
