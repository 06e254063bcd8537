// `cairn inspect` says what is wrong, shows it, and its fixes.csv is what `cairn train --fixes` takes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace fs = std::filesystem;

class Inspect : public testing::Test {
 protected:
  // Three classes of eight images, a copy of one, the same image under two labels, a turned photo, a thin
  // strip and two damaged files.
  Inspect() {
    make_data(folder_, 3, 8);
    fs::copy_file(file(0, 0), folder_.path("data/c0/copy.png"));
    fs::copy_file(file(1, 0), folder_.path("data/c2/other.png"));
    folder_.write("data/c0/turned.jpg", turned(make_jpeg(64, 80, 7)));
    folder_.write("data/c1/strip.png", make_png(200, 40, 3, 1));
    folder_.write("data/c1/text.jpg", "no image");
    folder_.write("data/c2/bomb.png", make_png_bomb(30000, 20000));
  }

  std::string file(int cls, std::size_t which) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path("data/c" + std::to_string(cls))))
      names.push_back(entry.path().string());
    std::sort(names.begin(), names.end());
    return names.at(which);
  }
  // With an EXIF block behind the start marker: big-endian TIFF, one entry, orientation 6.
  static std::string turned(const std::string& jpeg) {
    const std::string tiff("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26);
    const std::string body = std::string("Exif\0\0", 6) + tiff;
    return jpeg.substr(0, 2) + "\xFF\xE1" + std::string(1, '\0') + static_cast<char>(body.size() + 2) + body +
           jpeg.substr(2);
  }
  nlohmann::json inspect(const std::string& more = "") const {
    const Outcome o = cairn("inspect " + folder_.path("data") + " --json --quiet" + more);
    EXPECT_EQ(o.status, 0) << o.err;
    return nlohmann::json::parse(o.out, nullptr, false);
  }
  std::string relative(const std::string& path) const {
    return fs::relative(path, folder_.path("data")).string();
  }

  data::TempFolder folder_;
};

TEST_F(Inspect, JsonNamesEverythingThatIsWrong) {
  const nlohmann::json json = inspect();
  EXPECT_EQ(json.at("images"), 28);
  EXPECT_EQ(json.at("formats"), (nlohmann::json{{"PNG", 27}, {"JPEG", 1}}));
  EXPECT_EQ(json.at("color_modes"), (nlohmann::json{{"RGB", 28}}));
  EXPECT_EQ(json.at("width").at("max"), 200);
  ASSERT_EQ(json.at("damaged").size(), 2U);
  EXPECT_EQ(json.at("damaged")[0].at("path"), "c1/text.jpg");
  EXPECT_THAT(json.at("damaged")[1].at("reason").get<std::string>(), HasSubstr("600 megapixels"));
  ASSERT_EQ(json.at("duplicates").size(), 1U);
  EXPECT_THAT(json.at("duplicates")[0].get<std::vector<std::string>>(), testing::Contains("c0/copy.png"));
  ASSERT_EQ(json.at("label_conflicts").size(), 1U);
  EXPECT_THAT(json.at("label_conflicts")[0].get<std::vector<std::string>>(),
              testing::Contains("c2/other.png"));
  EXPECT_EQ(json.at("exif_turned"), nlohmann::json::array({"c0/turned.jpg"}));
  EXPECT_EQ(json.at("extreme_shapes").size(), 1U);
  EXPECT_EQ(json.at("extreme_shapes")[0].at("path"), "c1/strip.png");
  EXPECT_EQ(json.at("small").size(), 27U);  // all but the photo are under 224 / 4 pixels
  EXPECT_EQ(inspect(" --image-size 32").at("small").size(), 0U);
}

TEST_F(Inspect, PageIsOneFileWithPicturesAndTicks) {
  const std::string page = folder_.path("page.html");
  const Outcome o = cairn("inspect " + folder_.path("data") + " --augment standard --html " + page);
  EXPECT_EQ(o.status, 0) << o.err;
  const std::string html = read_file(page);
  EXPECT_THAT(html, AllOf(HasSubstr("data:image/jpeg;base64,/9j/"), HasSubstr("data-path=\"c1/text.jpg\""),
                          HasSubstr("600 megapixels"), HasSubstr("download=\"fixes.csv\""),
                          HasSubstr("What training sees with --augment standard"), HasSubstr("</html>")));
  // Nothing is fetched from anywhere.
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http")), Not(HasSubstr("src=\"/")), Not(HasSubstr("url("))));
  // The further copy is ticked, the first is not.
  const auto figure = [&](const std::string& path) {
    const auto at = html.find("data-path=\"" + path + "\"");
    return html.substr(at, html.find("</figure>", at) - at);
  };
  EXPECT_NE(figure("c0/copy.png").find("checked"), figure(relative(file(0, 0))).find("checked"));
  EXPECT_THAT(figure("c2/other.png"), Not(HasSubstr("checked")));
}

TEST_F(Inspect, FixesAreWhatTrainTakes) {
  const std::string fixes = folder_.path("fixes.csv");
  EXPECT_EQ(cairn("inspect " + folder_.path("data") + " --fixes " + fixes).status, 0);
  const std::vector<std::string> lines = lines_of(read_file(fixes));
  ASSERT_EQ(lines.size(), 4U);  // two damaged files and one copy
  EXPECT_THAT(lines, testing::Contains("c1/text.jpg,drop,"));
  folder_.write("fixes.csv", read_file(fixes) + "c2/other.png,label,c1\n");

  const std::string train = "train --data " + folder_.path("data") + " --fixes " + fixes +
                            " --model model_cnn --image-size 16 --epochs 1 --batch-size 4 --precision fp32 "
                            "--device cpu --workers 2 --out " +
                            folder_.path("run");
  const Outcome o = cairn(train);
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("fixes: 3 images dropped, 1 relabelled"));
  EXPECT_THAT(o.err, Not(HasSubstr("left out")));
  const std::string split = read_file(folder_.path("run/split.csv"));
  EXPECT_THAT(split, AllOf(HasSubstr("c2/other.png,c1,"), Not(HasSubstr("text.jpg"))));
  EXPECT_TRUE(fs::exists(folder_.path("data/c1/text.jpg")));  // the files stay
  const Outcome evaluated = cairn("evaluate --json --run " + folder_.path("run"));
  EXPECT_EQ(evaluated.status, 0) << evaluated.err;

  fs::remove(fixes);
  const Outcome refused = cairn(train + "2");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.err, HasSubstr("fixes.csv"));
}

TEST_F(Inspect, SpeedSaysWhatLimitsTraining) {
  const nlohmann::json speed =
      inspect(" --speed --model model_cnn --image-size 32 --device cpu --augment standard").at("speed");
  EXPECT_EQ(speed.at("steps").size(), 6U);
  for (const nlohmann::json& step : speed.at("steps")) EXPECT_GT(step.at("images_per_s").get<double>(), 0);
  for (const char* name : {"first_epoch_images_per_s", "cached_epochs_images_per_s", "training_images_per_s"})
    EXPECT_GT(speed.at(name).get<double>(), 0) << name;
  EXPECT_THAT(speed.at("verdict").get<std::string>(), HasSubstr("limits"));
}

TEST_F(Inspect, OptionsThatSayNothingAreRefused) {
  const Outcome o = cairn("inspect " + folder_.path("data") + " --augment light");
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(lines_of(o.err), ElementsAre(HasSubstr("--augment")));
}

}  // namespace
}  // namespace cairn::app
