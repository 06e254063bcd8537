#include "data/fixes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Fixes : public testing::Test {
 protected:
  Fixes() {
    for (const char* name : {"cat/1.ppm", "cat/2.ppm", "dog/1.ppm", "dog/a, \"b\".ppm"})
      folder_.write(name, make_ppm(2, 2, 1));
    dataset_ = open_folder(folder_.path());
  }
  std::vector<std::string> paths() const {
    std::vector<std::string> result;
    for (const Item& item : dataset_.items) result.push_back(item.path + "=" + dataset_.classes[item.label]);
    return result;
  }
  TempFolder folder_;
  Dataset dataset_;
};

TEST_F(Fixes, TextComesBack) {
  const std::vector<Fix> fixes = {{"cat/1.ppm", ""}, {"dog/a, \"b\".ppm", "cat"}};
  const std::string text = fixes_text(fixes);
  EXPECT_EQ(text, "path,action,label\ncat/1.ppm,drop,\n\"dog/a, \"\"b\"\".ppm\",label,cat\n");
  const std::vector<Fix> back = parse_fixes(text, "fixes.csv");
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[1].path, fixes[1].path);
  EXPECT_EQ(back[1].label, "cat");
  EXPECT_TRUE(back[0].drops());
}

TEST_F(Fixes, DropsAndRelabels) {
  const FixesDone done =
      apply_fixes(dataset_, {{"cat/1.ppm", ""}, {"dog/a, \"b\".ppm", "cat"}, {"gone.ppm", ""}});
  EXPECT_EQ(done.dropped, 1);
  EXPECT_EQ(done.relabelled, 1);
  EXPECT_EQ(done.absent, 1);
  EXPECT_THAT(paths(), ElementsAre("cat/2.ppm=cat", "dog/1.ppm=dog", "dog/a, \"b\".ppm=cat"));
}

TEST_F(Fixes, WhatCannotBeDoneIsNamed) {
  const auto refused = [&](const std::vector<Fix>& fixes) {
    Dataset copy = dataset_;
    return message_of([&] { apply_fixes(copy, fixes); });
  };
  EXPECT_THAT(refused({{"cat/1.ppm", "bird"}}), HasSubstr("'bird'"));
  EXPECT_THAT(refused({{"cat/9.ppm", "dog"}}), HasSubstr("cat/9.ppm"));
  EXPECT_THAT(refused({{"cat/1.ppm", ""}, {"cat/2.ppm", "dog"}}), HasSubstr("class 'cat' without an image"));
}

TEST_F(Fixes, MalformedTextNamesItsLine) {
  const auto refused = [](const std::string& text) {
    return message_of([&] { parse_fixes(text, "f.csv"); });
  };
  EXPECT_THAT(refused("path,label\n"), HasSubstr("f.csv:1: no column 'action'"));
  const std::string head = "path,action,label\n";
  EXPECT_THAT(refused(head + "a,remove,\n"), HasSubstr("f.csv:2: the action 'remove'"));
  EXPECT_THAT(refused(head + "a,drop,cat\n"), HasSubstr("f.csv:2: an image to drop"));
  EXPECT_THAT(refused(head + "a,label,\n"), HasSubstr("f.csv:2: the new label is empty"));
  EXPECT_THAT(refused(head + ",drop,\n"), HasSubstr("f.csv:2: the path is empty"));
  EXPECT_THAT(refused(head + "a,drop,\na,drop,\n"), HasSubstr("f.csv:3: a is named a second time"));
}

}  // namespace
}  // namespace cairn::data
