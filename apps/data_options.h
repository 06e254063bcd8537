#pragma once
#include <string>

#include "apps/console.h"
#include "apps/options.h"
#include "data/dataset/dataset.h"
#include "data/decode/decode.h"
#include "data/manifest.h"
#include "data/split.h"

namespace cairn::app {

/// A data set whose images have all been read once: those that cannot be used are left out and named.
struct CheckedData {
  data::Dataset dataset;
  std::vector<std::string> hashes;                                     // [items], of the content
  std::vector<std::pair<std::int64_t, std::int64_t>> near_duplicates;  // pairs of items that join groups
};
struct CheckOptions {
  std::string fixes = {};  // text of a fixes.csv to apply; empty: none
  std::int64_t max_pixels;
  int workers;
  bool near_duplicates;  // whether to look for them
};
/// Opens a data set and applies the text of a fixes.csv, which may be empty; what it did and warnings go to
/// the console. Throws InputError.
data::Dataset open_fixed_dataset(const std::string& path, const std::string& fixes, Console& console);
/// The content of a fixes.csv; empty where the name is, or where there is no such file and it may be absent.
std::string read_fixes(const std::string& path, bool may_be_absent);

/// How images are decoded to see whether they can be: all of the file is read, but a JPEG's pixels are made
/// no larger than a look at them needs.
data::DecodeOptions scan_decoding(std::int64_t max_pixels);

/// Opens and reads it; warnings go to the console. Throws InputError.
CheckedData check_data(const std::string& path, const CheckOptions& options, Console& console);

/// The protocol and fractions of the options, as the data floor wants them.
data::SplitOptions split_options(const std::string& protocol, std::optional<double> val_fraction,
                                 std::optional<double> test_fraction, std::uint64_t seed);
/// The split that the options ask for, disjoint by content; warnings go to the console.
data::Manifest split_for(const TrainOptions& o, const CheckedData& checked, Console& console);
/// Whether a split of this protocol is to look for near duplicates.
bool wants_near_duplicates(const std::string& protocol, const std::string& near_duplicates);

/// Prints how many images of each class lie in each part.
void say_parts(const data::Dataset& dataset, const data::Manifest& manifest, Console& console);

}  // namespace cairn::app
