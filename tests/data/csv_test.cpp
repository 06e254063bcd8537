#include "data/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Csv, ReadsQuotesLineEndsAndByteOrderMark) {
  const auto records =
      parse_csv("\xEF\xBB\xBFpath,label\r\n\"a,b\",\"say \"\"x\"\"\"\n\n\"two\nlines\",\xC3\xA4\n", "f");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_THAT(records[0].fields, ElementsAre("path", "label"));
  EXPECT_THAT(records[1].fields, ElementsAre("a,b", "say \"x\""));
  EXPECT_THAT(records[2].fields, ElementsAre("two\nlines", "\xC3\xA4"));
  EXPECT_EQ(records[1].line, 2);
  EXPECT_EQ(records[2].line, 4);
}

TEST(Csv, LastLineNeedsNoEndAndMayEndInAnEmptyField) {
  const auto records = parse_csv("a,b\n1,", "f");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_THAT(records[1].fields, ElementsAre("1", ""));
}

TEST(Csv, ErrorsNameTheLine) {
  const auto error = [](std::string_view text) { return message_of([&] { parse_csv(text, "f.csv"); }); };
  EXPECT_THAT(error(""), HasSubstr("f.csv:1: the file is empty"));
  EXPECT_THAT(error("a,b\n1,2\n1,2,3\n"), HasSubstr("f.csv:3: 3 fields, the header has 2"));
  EXPECT_THAT(error("a,b\n\"x\ny,2\n"), HasSubstr("f.csv:2: a quote is opened"));
  EXPECT_THAT(error("a,b\n\"x\"y,2\n"), HasSubstr("f.csv:2: text after"));
  EXPECT_THAT(error("a,b\nx\"y,2\n"), HasSubstr("f.csv:2: a quote inside"));
  EXPECT_THAT(error("a,b\n\xFF,2\n"), HasSubstr("f.csv:2: not UTF-8"));
  EXPECT_THAT(error(std::string_view("a,b\n\0,2\n", 8)), HasSubstr("f.csv:2: a zero byte"));
  EXPECT_THAT(error("a,b\r1,2\r"), HasSubstr("f.csv:1: "));
}

TEST(Csv, RefusesMalformedUtf8) {
  // Overlong '/', a surrogate, beyond U+10FFFF, cut short.
  for (const std::string_view bad : {"\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82"}) {
    EXPECT_THROW(parse_csv(bad, "f"), InputError);
  }
  EXPECT_EQ(parse_csv("\xF4\x8F\xBF\xBF\xE2\x82\xAC", "f").size(), 1u);
}

TEST(Csv, WrittenFieldsReadBack) {
  const std::string fields[] = {"plain", "a,b", "\"", "x\r\ny", ""};
  std::string text = "x";
  for (const std::string& field : fields) {
    text += ",";
    append_csv_field(text, field);
  }
  const auto records = parse_csv(text, "f");
  ASSERT_EQ(records.size(), 1u);
  EXPECT_THAT(records[0].fields, ElementsAre("x", "plain", "a,b", "\"", "x\r\ny", ""));
}

TEST(Csv, PrintableKeepsAMessageOnOneLine) { EXPECT_EQ(printable("a\nb\x7F"), "a\\x0ab\\x7f"); }

}  // namespace
}  // namespace cairn::data
