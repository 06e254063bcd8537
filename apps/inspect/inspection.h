#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/console.h"
#include "data/dataset/dataset.h"
#include "data/dataset/scan.h"
#include "data/decode/decode.h"
#include "data/fixes.h"

namespace cairn::app {

/// What is known of an image that could be decoded.
struct ImageFacts {
  data::ImageInfo stored;
  int width = 0, height = 0;  // upright
  std::int64_t bytes = 0;
};

using Items = std::vector<std::int64_t>;  // places in Inspection::dataset.items

/// What `cairn inspect` has found out.
struct Inspection {
  data::Dataset dataset;          // what could be read
  std::vector<ImageFacts> facts;  // [items]
  std::vector<data::DamagedFile> damaged;
  std::vector<Items> copies;           // the same bytes under one label
  std::vector<Items> conflicts;        // the same bytes under several labels
  std::vector<Items> look_alikes;      // near duplicates under one label
  std::vector<Items> alike_conflicts;  // near duplicates under several labels
  Items turned;                        // by EXIF
  Items small;                         // shorter side below smallest_side
  Items extreme;                       // longer side above kExtremeShape times the shorter one
  int smallest_side = 0;
};

inline constexpr int kExtremeShape = 4;  // squeezed to a square, such an image is hard to recognise

struct InspectSettings {
  std::int64_t max_pixels = 0;
  int workers = 0;
  int image_size = 0;  // an image that would be enlarged more than 4 times to it counts as small
  bool near_duplicates = true;
};
/// Reads every image once.
Inspection inspect(data::Dataset dataset, const InspectSettings& settings, Console& console);

/// What may be put right without a look: damaged files and further copies under the same label are dropped.
std::vector<data::Fix> safe_fixes(const Inspection& inspection);

nlohmann::json inspection_json(const Inspection& inspection);
/// For people, several lines.
std::string inspection_text(const Inspection& inspection);

}  // namespace cairn::app
