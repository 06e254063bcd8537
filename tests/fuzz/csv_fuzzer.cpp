// The CSV reader and the fixes on any text: records as wide as the first, or InputError; and what is written
// is read back.
#include <algorithm>
#include <cstdlib>

#include "data/csv.h"
#include "data/fixes.h"
#include "kernels/error.h"

using namespace cairn::data;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const std::vector<CsvRecord> records = parse_csv(text, "fuzz.csv");
    std::string written;
    for (const CsvRecord& record : records) {
      written += "first,";  // so that no field looks like a byte-order mark, and no record like an empty line
      if (record.fields.size() != records[0].fields.size()) std::abort();
      for (size_t i = 0; i < record.fields.size(); ++i) {
        append_csv_field(written, record.fields[i]);
        written += i + 1 < record.fields.size() ? ',' : '\n';
      }
    }
    const std::vector<CsvRecord> again = parse_csv(written, "again.csv");
    if (again.size() != records.size()) std::abort();
    for (size_t i = 0; i < again.size(); ++i) {
      if (!std::equal(records[i].fields.begin(), records[i].fields.end(), again[i].fields.begin() + 1,
                      again[i].fields.end()))
        std::abort();
    }
  } catch (const cairn::InputError&) {
  }
  try {
    parse_fixes(text, "fuzz.csv");
  } catch (const cairn::InputError&) {
  }
  return 0;
}
