#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::data {

/// A record of a CSV file and the line that it begins on (from 1).
struct CsvRecord {
  int64_t line;
  std::vector<std::string> fields;
};

/// Parses RFC 4180 text: quoted fields, doubled quotes, LF or CRLF, a byte-order mark allowed, empty lines
/// skipped. Every record must have as many fields as the first. Throws InputError as "NAME:LINE: what is
/// wrong".
std::vector<CsvRecord> parse_csv(std::string_view text, std::string_view name);

/// Appends a field, quoted where it must be.
void append_csv_field(std::string& out, std::string_view field);

/// Place of the column in the header, -1 if it is not there.
int find_column(const CsvRecord& header, std::string_view column);

/// The text with control characters shown as hexadecimal escapes, so that a message stays one line.
std::string printable(std::string_view text);

}  // namespace cairn::data
