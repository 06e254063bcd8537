#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset/dataset.h"

namespace cairn::data {

/// What is to be done about one image: another label, or, where that is empty, out of the set.
struct Fix {
  std::string path;  // as Item::path
  std::string label;
  bool drops() const { return label.empty(); }
};

/// The text of a fixes.csv: columns path,action,label, where action is `drop` (label empty) or `label`.
std::string fixes_text(const std::vector<Fix>& fixes);
/// Parses such a text; `name` is for messages. Throws InputError with the line number for anything that
/// fixes_text would not have written, and for a path named twice.
std::vector<Fix> parse_fixes(std::string_view text, std::string_view name);

struct FixesDone {
  int64_t dropped = 0;
  int64_t relabelled = 0;
  int64_t absent = 0;  // images to drop that are not there (any more)
};
/// Drops and relabels items; the files stay as they are. Throws InputError for a new label on a path that the
/// set does not have, for a label that is none of its classes, and where a class would be left empty.
FixesDone apply_fixes(Dataset& dataset, const std::vector<Fix>& fixes);

}  // namespace cairn::data
