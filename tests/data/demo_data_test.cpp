#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <set>

#include "tests/data/temp_folder.h"

// scripts/demo-data on a made-up package: what it takes, what it leaves out, and that it may be run again.
namespace cairn::data {
namespace {

using testing::HasSubstr;

struct Outcome {
  int status;
  std::string text;
};

Outcome run(const std::string& command) {
  Outcome outcome{};
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  for (size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    outcome.text.append(buffer.data(), n);
  outcome.status = WEXITSTATUS(pclose(pipe));
  return outcome;
}

// The first 33 bytes of a PNG of that size, and a tail that tells files apart.
std::string png_header(uint32_t width, uint32_t height, const std::string& tail) {
  std::string text("\x89PNG\r\n\x1A\n\0\0\0\rIHDR", 16);
  for (const uint32_t side : {width, height}) {
    for (const int shift : {24, 16, 8, 0}) text += static_cast<char>(side >> shift & 0xFF);
  }
  return text + std::string("\x08\x06\0\0\0\0\0\0\0", 9) + tail;
}

class DemoData : public testing::Test {
 protected:
  DemoData() {
    for (const char* name : {"animals", "food", "people", "recreation", "transportation"}) {
      for (int i = 0; i < 3; ++i) {
        const std::string file = std::string(name) + "/deep/" + std::to_string(i) + ".png";
        package_.write(file, png_header(30, 20, file));
      }
    }
    package_.write("food/bomb.png", png_header(20990, 29700, ""));
    package_.write("food/text.png", "no image");
    package_.write("food/empty.png", "");
    package_.write("food/notes.txt", "");
    package_.write("shapes/1.png", png_header(3, 3, ""));
    std::filesystem::create_symlink("deep/0.png", package_.path("animals/link.png"));
    std::filesystem::create_symlink("nowhere", package_.path("animals/dangling.png"));
  }

  Outcome demo_data(const std::string& arguments) const {
    return run("CAIRN_OPENCLIPART=" + package_.path() + " " CAIRN_SOURCE_DIR "/scripts/demo-data " +
               arguments);
  }

  TempFolder package_, out_;
};

TEST_F(DemoData, TakesReadableFilesOnce) {
  const std::string out = out_.path("set");
  const Outcome first = demo_data(out + " --set large");
  EXPECT_EQ(first.status, 0) << first.text;
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out)) {
    if (entry.is_regular_file()) files.insert(std::filesystem::relative(entry.path(), out).string());
  }
  EXPECT_EQ(files.size(), 5u * 3 + 1 + 1);  // three a class, the link as a file, the list
  EXPECT_TRUE(files.contains("animals/link.png"));
  EXPECT_FALSE(std::filesystem::is_symlink(out + "/animals/link.png"));
  EXPECT_THAT(first.text, HasSubstr("left out food/bomb.png"));
  EXPECT_THAT(first.text, HasSubstr("left out animals/dangling.png"));
  EXPECT_THAT(first.text, HasSubstr("16 images of 5 classes"));

  const Outcome second = demo_data(out + " --set large");
  EXPECT_EQ(second.status, 0);
  EXPECT_THAT(second.text, HasSubstr("nothing to do"));
  EXPECT_EQ(demo_data(out).status, 1);  // another set
  std::filesystem::remove(out + "/food/deep/1.png");
  EXPECT_THAT(demo_data(out + " --set large").text, HasSubstr("1 of its images are gone"));
}

TEST_F(DemoData, TooFewFilesLeaveNoSet) {
  const Outcome outcome = demo_data(out_.path("set"));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_FALSE(std::filesystem::exists(out_.path("set")));
}

TEST_F(DemoData, NoInstallOnlySays) {
  const Outcome outcome = demo_data(out_.path("set") + " --no-install");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.text, HasSubstr("would copy the demo set"));
  EXPECT_FALSE(std::filesystem::exists(out_.path("set")));
}

TEST_F(DemoData, WrongUsageIsStatusTwo) {
  for (const char* arguments : {"", "x --set middling", "x --set", "x y", "x --fast"}) {
    EXPECT_EQ(demo_data(arguments).status, 2) << arguments;
  }
}

}  // namespace
}  // namespace cairn::data
