#include "data/csv.h"

#include "kernels/error.h"

namespace cairn::data {
namespace {

[[noreturn]] void fail(std::string_view name, int64_t line, const std::string& what) {
  throw InputError(printable(name) + ":" + std::to_string(line) + ": " + what);
}

// Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms), from `at`; returns its length, 0 if it is
// none.
size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned lead = byte(at);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0u) != 0x80u) return 0;
  }
  const unsigned second = byte(at + 1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
      (lead == 0xF4 && second > 0x8F)) {
    return 0;
  }
  return length;
}

void check_utf8(std::string_view text, std::string_view name) {
  int64_t line = 1;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\0') fail(name, line, "a zero byte: this is no text file");
    const size_t length = utf8_length(text, i);
    if (length == 0) fail(name, line, "not UTF-8: save the file as UTF-8");
    if (text[i] == '\n') ++line;
    i += length;
  }
}

}  // namespace

std::vector<CsvRecord> parse_csv(std::string_view text, std::string_view name) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  check_utf8(text, name);
  std::vector<CsvRecord> records;
  int64_t line = 1;
  size_t i = 0;
  while (i < text.size()) {
    CsvRecord record{line, {}};
    bool more = true;
    while (more) {
      std::string field;
      if (i < text.size() && text[i] == '"') {
        const int64_t opened = line;
        for (++i;; ++i) {
          if (i == text.size()) fail(name, opened, "a quote is opened and never closed");
          if (text[i] == '"') {
            if (i + 1 == text.size() || text[i + 1] != '"') break;
            ++i;
          }
          if (text[i] == '\n') ++line;
          field += text[i];
        }
        ++i;
      } else {
        while (i < text.size() && text[i] != ',' && text[i] != '\n' && text[i] != '\r') {
          if (text[i] == '"') fail(name, line, "a quote inside a field that is not quoted");
          field += text[i++];
        }
      }
      record.fields.push_back(std::move(field));
      more = i < text.size() && text[i] == ',';
      if (more) ++i;
    }
    if (i < text.size() && text[i] == '\r') ++i;
    if (i < text.size()) {
      if (text[i] != '\n')
        fail(name, line, "text after a closing quote, or a carriage return inside the line");
      ++i;
      ++line;
    }
    if (record.fields.size() == 1 && record.fields[0].empty()) continue;
    if (!records.empty() && record.fields.size() != records[0].fields.size()) {
      fail(name, record.line,
           std::to_string(record.fields.size()) + " fields, the header has " +
               std::to_string(records[0].fields.size()) + " (quote fields that hold commas)");
    }
    records.push_back(std::move(record));
  }
  if (records.empty()) fail(name, 1, "the file is empty");
  return records;
}

void append_csv_field(std::string& out, std::string_view field) {
  if (field.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += field;
    return;
  }
  out += '"';
  for (const char c : field) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

int find_column(const CsvRecord& header, std::string_view column) {
  for (size_t i = 0; i < header.fields.size(); ++i) {
    if (header.fields[i] == column) return static_cast<int>(i);
  }
  return -1;
}

std::string printable(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace cairn::data
