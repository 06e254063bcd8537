#include "data/dataset/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> paths_of(const Dataset& dataset) {
  std::vector<std::string> paths;
  for (const Item& item : dataset.items) paths.push_back(item.path);
  return paths;
}

std::string open_error(const std::string& path) {
  return message_of([&] { open_dataset(path); });
}

TEST(FolderDataset, SortsClassesAndFilesAndSearchesDeep) {
  const TempFolder folder;
  folder.write("dogs/b.PNG", "2");
  folder.write("dogs/a/z.jpg", "1");
  folder.write("cats/one.webp", "0");
  folder.write("cats/two.jpeg", "x");
  folder.write("cats/notes.txt", "");
  folder.write("cats/.hidden.jpg", "");
  folder.write(".git/x.jpg", "");
  folder.write("stray.jpg", "");
  const Dataset dataset = open_dataset(folder.path());
  EXPECT_THAT(dataset.classes, ElementsAre("cats", "dogs"));
  EXPECT_THAT(paths_of(dataset), ElementsAre("cats/one.webp", "cats/two.jpeg", "dogs/a/z.jpg", "dogs/b.PNG"));
  EXPECT_EQ(dataset.items[2].label, 1);
  EXPECT_EQ(dataset.ignored_files, 1);
  EXPECT_THAT(dataset.warnings, Contains(HasSubstr("1 image lies in")));
  EXPECT_THAT(dataset.warnings, Contains(HasSubstr("1 file was passed over")));
  EXPECT_THAT(dataset.class_counts(), ElementsAre(2, 2));
  EXPECT_EQ(dataset.read_bytes(dataset.items[2]), std::vector<uint8_t>{'1'});
}

TEST(FolderDataset, LinksThatGoInCirclesEnd) {
  const TempFolder folder;
  folder.write("a/1.jpg", "");
  folder.write("a/2.jpg", "");
  folder.write("b/1.jpg", "");
  folder.write("b/2.jpg", "");
  std::filesystem::create_directory_symlink(folder.path("a"), folder.path("a/again"));
  EXPECT_EQ(open_dataset(folder.path()).items.size(), 4u);
}

TEST(FolderDataset, ErrorsNameWhatIsWrong) {
  const TempFolder folder;
  EXPECT_THAT(open_error(folder.path("none")), HasSubstr("none: no such file or folder"));
  EXPECT_THAT(open_error(folder.path()), HasSubstr("no class folders in it"));
  folder.write("a/1.jpg", "");
  folder.write("b/readme.txt", "");
  EXPECT_THAT(open_error(folder.path()), HasSubstr("class 'b' has no images"));
  folder.write("b/1.jpg", "");
  EXPECT_THAT(open_dataset(folder.path()).warnings, Contains(HasSubstr("class 'a' has a single image")));
  folder.write("x.zip", "");
  EXPECT_THAT(open_error(folder.path("x.zip")), HasSubstr("a data set is"));
}

TEST(FolderDataset, VanishedFileIsNamed) {
  const TempFolder folder;
  folder.write("a/1.jpg", "");
  folder.write("b/1.jpg", "");
  const Dataset dataset = open_dataset(folder.path());
  std::filesystem::remove(folder.path("a/1.jpg"));
  EXPECT_THAT(message_of([&] { dataset.read_bytes(dataset.items[0]); }), HasSubstr("a/1.jpg"));
}

TEST(FilesDataset, TakesFilesAndFolders) {
  const TempFolder folder;
  folder.write("x/2.png", "");
  folder.write("x/1.png", "");
  folder.write("noextension", "");
  const Dataset dataset = open_files({folder.path("noextension"), folder.path("x")});
  EXPECT_THAT(paths_of(dataset),
              ElementsAre(folder.path("noextension"), folder.path("x/1.png"), folder.path("x/2.png")));
  EXPECT_EQ(dataset.items[0].label, -1);
  EXPECT_THROW(open_files({folder.path("none")}), InputError);
}

TEST(CsvDataset, ReadsAllColumnsInAnyOrder) {
  const TempFolder folder;
  for (const char* name : {"i/1.jpg", "i/2.jpg", "i/3.jpg", "i/4.jpg"}) folder.write(name, "");
  folder.write("set.csv",
               "label,path,part,group,note\n10,i/2.jpg,train,g,x\n9,i/1.jpg,,,y\n10,i/3.jpg,test,,\n9,i/"
               "4.jpg,val,,\n");
  const Dataset dataset = open_dataset(folder.path("set.csv"));
  EXPECT_THAT(dataset.classes, ElementsAre("9", "10"));
  EXPECT_THAT(paths_of(dataset), ElementsAre("i/1.jpg", "i/2.jpg", "i/3.jpg", "i/4.jpg"));
  EXPECT_EQ(dataset.items[1].label, 1);
  EXPECT_EQ(dataset.items[1].group, "g");
  EXPECT_EQ(dataset.items[1].part, "train");
  EXPECT_EQ(dataset.items[0].part, "");
  EXPECT_THAT(dataset.warnings, IsEmpty());
}

TEST(CsvDataset, ErrorsNameTheLine) {
  const TempFolder folder;
  folder.write("1.jpg", "");
  const auto error = [&](const std::string& text) {
    folder.write("set.csv", text);
    return open_error(folder.path("set.csv"));
  };
  EXPECT_THAT(error("file,label\n"), HasSubstr("set.csv:1: the first line must name the columns"));
  EXPECT_THAT(error("path,label\n"), HasSubstr("no images below the header"));
  EXPECT_THAT(error("path,label\n1.jpg,a\n2.jpg,a\n"), HasSubstr("set.csv:3: no such file"));
  EXPECT_THAT(error("path,label\n1.jpg,a\n1.jpg,b\n"),
              HasSubstr("set.csv:3: 1.jpg is listed a second time (first on line 2)"));
  EXPECT_THAT(error("path,label\n1.jpg,\n"), HasSubstr("set.csv:2: the label of 1.jpg is empty"));
  EXPECT_THAT(error("path,label\n,a\n"), HasSubstr("set.csv:2: the path is empty"));
  EXPECT_THAT(error("path,label,part\n1.jpg,a,dev\n"), HasSubstr("set.csv:2: the part 'dev'"));
  EXPECT_THAT(error("path,label\n" + folder.path() + ",a\n"), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace cairn::data
