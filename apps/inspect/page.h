#pragma once
#include <cstdint>
#include <string>

#include "apps/inspect/inspection.h"
#include "data/augment.h"

namespace cairn::app {

struct PageOptions {
  std::string data;  // as the user named it
  data::DecodeOptions decode;
  int workers = 0;
  data::Augment augment = data::Augment::none;  // other than none: show what training would see
  int image_size = 224;
  std::uint64_t seed = 0;
};

/// One self-contained HTML file: the figures, the images in question as thumbnails with a tick box and a
/// label each, and a link that saves what is ticked as fixes.csv.
std::string inspection_page(const Inspection& inspection, const PageOptions& options);

}  // namespace cairn::app
