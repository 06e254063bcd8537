// What report.html, evaluate and predict show, read from the files they write; a browser reads the page in
// tests/peers/report_page.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/report/class_maps.h"
#include "data/file.h"
#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "models/classifier.h"
#include "models/registry.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace fs = std::filesystem;

// The data of a page, as its script reads it.
json data_of(const std::string& html) {
  const std::string begin = "<script type=\"application/json\" id=\"report\">";
  const auto at = html.find(begin);
  if (at == std::string::npos) return {};
  const auto from = at + begin.size();
  return json::parse(html.substr(from, html.find("</script>", from) - from), nullptr, false);
}

class Report : public testing::Test {
 protected:
  static constexpr const char* kShort =
      " --model model_cnn --image-size 16 --epochs 2 --batch-size 4 --precision fp32 --device cpu --threads "
      "2 "
      "--quiet";
  // Three classes of 20 images; two images of the last lie in the first by mistake.
  Report() {
    make_data(folder_, 3, 20);
    for (const char* name : {"300.png", "301.png"})
      folder_.write(std::string("data/c0/") + name, make_png(32, 32, 77 + static_cast<unsigned>(name[2]), 2));
  }
  void train(const std::string& run, const std::string& more = "") const {
    const Outcome o =
        cairn("train --data " + folder_.path("data") + " --out " + folder_.path(run) + kShort + " " + more);
    ASSERT_EQ(o.status, 0) << o.err;
  }
  json page(const std::string& run) const { return data_of(read_file(folder_.path(run + "/report.html"))); }
  json evaluate(const std::string& arguments) const {
    const Outcome o = cairn("evaluate --json --quiet " + arguments);
    EXPECT_EQ(o.status, 0) << o.err;
    return json::parse(o.out, nullptr, false);
  }
  data::TempFolder folder_;
};

TEST_F(Report, ShowsWhatEvaluateSays) {
  train("run", "--epochs 3 --patience 0");
  const json shown = page("run");
  ASSERT_TRUE(shown.is_object());
  const json said = evaluate("--run " + folder_.path("run") + " --predictions " + folder_.path("p.csv"));
  for (const char* key :
       {"n", "accuracy", "balanced_accuracy", "macro_f1", "confusion", "classes", "intervals"})
    EXPECT_EQ(shown["scores"][key], said[key]) << key;
  EXPECT_EQ(shown["curves"]["epoch"], json::array({1, 2, 3}));
  for (const char* name : {"train_loss", "val_loss", "val_accuracy", "lr", "data_wait"})
    EXPECT_EQ(shown["curves"][name].size(), 3U) << name;
  EXPECT_EQ(shown["options"]["image-size"], 16);
  EXPECT_THAT(shown["command"].get<std::string>(),
              AllOf(HasSubstr("--image-size 16"), HasSubstr("--batch-size 4"), HasSubstr("--epochs 3"),
                    Not(HasSubstr("--momentum"))));
  EXPECT_TRUE(shown["parts"]["leaks"].empty());
  std::int64_t images = 0;
  for (const auto& [part, counts] : shown["parts"]["counts"].items())
    for (const json& n : counts) images += n.get<std::int64_t>();
  EXPECT_EQ(images, 62);
  // The matrix' cells hold all images, and each is a picture.
  std::int64_t in_cells = 0;
  for (const json& cell : shown["cells"]) {
    in_cells += cell["n"].get<std::int64_t>();
    EXPECT_EQ(cell["n"],
              said["confusion"][cell["label"].get<std::size_t>()][cell["answer"].get<std::size_t>()]);
    for (const json& image : cell["images"])
      EXPECT_THAT(shown["images"][std::to_string(image["item"].get<int>())]["src"].get<std::string>(),
                  testing::StartsWith("data:image/jpeg;base64,/9j/"));
  }
  EXPECT_EQ(in_cells, said["n"]);
  EXPECT_FALSE(shown["maps"].empty());
  // The predictions as a table say the same.
  const std::vector<std::string> lines = lines_of(read_file(folder_.path("p.csv")));
  EXPECT_EQ(lines.size(), said["n"].get<std::size_t>() + 1);
  EXPECT_EQ(lines[0], "path,label,answer,confidence");
}

TEST_F(Report, IsOneFileAndWrittenAgainByEvaluate) {
  train("run");
  const std::string file = folder_.path("run/report.html"), html = read_file(file);
  // Nothing is fetched: no attribute and no style names a place; Chart.js' licence does.
  EXPECT_THAT(html, AllOf(Not(HasSubstr("src=\"http")), Not(HasSubstr("href=\"http")),
                          Not(HasSubstr("@import")), Not(HasSubstr("url("))));
  fs::remove(file);
  evaluate("--run " + folder_.path("run"));
  EXPECT_EQ(read_file(file), html);
  fs::remove(file);
  evaluate("--run " + folder_.path("run") + " --part val --report " + folder_.path("val.html"));
  EXPECT_FALSE(fs::exists(file));
  EXPECT_EQ(data_of(read_file(folder_.path("val.html")))["judged"], "the val part");
}

TEST_F(Report, CanBeReadWhileTrainingGoesOn) {
  Running training("train --data " + folder_.path("data") + " --out " + folder_.path("run") +
                   " --model model_cnn --image-size 16 --epochs 100000 --patience 0 --batch-size 4 --quiet");
  ASSERT_TRUE(training.wait_for([&] { return fs::exists(folder_.path("run/report.html")); }));
  const json shown = page("run");
  EXPECT_EQ(shown["training"], (json{{"epoch", 1}, {"epochs", 100000}}));
  EXPECT_EQ(shown["curves"]["epoch"], json::array({1}));
  EXPECT_EQ(shown["judged"], "the validation part");
  std::int64_t of_val = 0;
  for (const json& n : shown["parts"]["counts"]["val"]) of_val += n.get<std::int64_t>();
  EXPECT_EQ(shown["scores"]["n"], of_val);
  for (const char* later : {"mistakes", "suspects", "calibration", "maps"})
    EXPECT_FALSE(shown.contains(later)) << later;
  EXPECT_TRUE(shown["images"].empty());
  for (const json& cell : shown["cells"]) EXPECT_EQ(cell["images"], json::array());
  training.send(SIGTERM);
  EXPECT_EQ(training.end().status, 1);
}

TEST_F(Report, ItsCommandRepeatsTheRun) {
  train("run",
        "--freeze 'features.0.*' --freeze features.4.bias --lr-scale 'classifier.*=0.5' --nesterov "
        "--optimizer sgd --mean 0.4,0.5,0.6 --std 0.25 --balance none --weight-decay 0.01");
  std::string command = page("run")["command"].get<std::string>();
  ASSERT_TRUE(command.starts_with("cairn ")) << command;
  const Outcome again = cairn(command.substr(6) + " --device cpu --quiet --out " + folder_.path("again"));
  EXPECT_EQ(again.status, 0) << command << "\n" << again.err;
  const std::string weights = "/checkpoints/best.safetensors";
  EXPECT_TRUE(read_file(folder_.path("run" + weights)) == read_file(folder_.path("again" + weights)))
      << command;
}

TEST_F(Report, NamesOfStrangersStayText) {
  const std::string evil = "<img src=x onerror=alert(1)>&'quoted";
  fs::rename(folder_.path("data/c1"), folder_.path("data/" + evil));
  fs::rename(folder_.path("data/c2/100.png"), folder_.path("data/c2/<!--<script>'\xFF.png"));
  const Outcome o = cairn("train --data " + folder_.path("data") + " --out " + folder_.path("run") + kShort);
  ASSERT_EQ(o.status, 0) << o.err;
  const std::string html = read_file(folder_.path("run/report.html"));
  EXPECT_THAT(html, AllOf(Not(HasSubstr("<img src=x")), Not(HasSubstr("<!--"))));
  EXPECT_THAT(page("run")["classes"].get<std::vector<std::string>>(), testing::Contains(evil));
  fs::rename(folder_.path("data/c0/100.png"), folder_.path("data/c0/no UTF-8 \xFF.png"));
  const std::string out = folder_.path("p.html");
  ASSERT_EQ(
      cairn("predict --quiet --html " + out + " --run " + folder_.path("run") + " " + folder_.path("data"))
          .status,
      0);
  EXPECT_THAT(read_file(out), AllOf(Not(HasSubstr("<img src=x")), Not(HasSubstr("<!--")),
                                    HasSubstr("&lt;!--"), HasSubstr("data:image/jpeg")));
}

TEST_F(Report, TemperatureOfTheReportIsThatOfPredict) {
  train("run");
  const io::Metadata metadata =
      io::open_safetensors(folder_.path("run/checkpoints/best.safetensors")).metadata;
  const json shown = page("run")["calibration"];
  const double kept = metadata.contains("temperature") ? std::stod(metadata.at("temperature")) : 1;
  EXPECT_EQ(shown["temperature"].get<double>(), kept);
  const Outcome o =
      cairn("predict --json --quiet --logits --run " + folder_.path("run") + " " + folder_.path("data/c0"));
  for (const std::string& line : lines_of(o.out)) {
    const json j = json::parse(line);
    double sum = 0, most = 0;
    for (const json& logit : j["logits"]) {
      const double e = std::exp(logit.get<double>() / kept);
      sum += e;
      most = std::max(most, e);
    }
    EXPECT_NEAR(j["confidence"].get<double>(), most / sum, 1e-6);  // logits have nine digits
  }
}

TEST_F(Report, ComparesTwoRunsOnTheSameFiles) {
  train("a");
  train("b", "--split " + folder_.path("a/split.csv") + " --seed 4 --lr 1e-6");
  const json j = evaluate("--run " + folder_.path("a") + " --compare " + folder_.path("b"));
  const json c = j["compare"];
  EXPECT_EQ(c["n"], j["n"]);
  EXPECT_EQ(c["first"]["accuracy"], j["accuracy"]);
  EXPECT_EQ(c["second"]["accuracy"], evaluate("--run " + folder_.path("b"))["accuracy"]);
  EXPECT_EQ(c["both_right"].get<int>() + c["only_first_right"].get<int>() +
                c["only_second_right"].get<int>() + c["both_wrong"].get<int>(),
            c["n"].get<int>());
  EXPECT_GT(c["p_value"].get<double>(), 0);
  EXPECT_LE(c["p_value"].get<double>(), 1);
  const json same = evaluate("--run " + folder_.path("a") + " --compare " + folder_.path("a"))["compare"];
  EXPECT_EQ(same["p_value"], 1);
  EXPECT_EQ(same["only_first_right"], 0);
}

TEST_F(Report, FoldsTogetherJudgeEveryImage) {
  train("many", "--folds 3 --epochs 4");
  evaluate("--run " + folder_.path("many"));
  const json shown = page("many");
  EXPECT_EQ(shown["scores"]["n"], 62);
  EXPECT_EQ(shown["suspects"]["looked_at"], 62);
  EXPECT_EQ(lines_of(read_file(folder_.path("many/label_errors.csv"))).size(), 63U);
}

// A ninth of the images lies in the wrong class: the list's first fifth holds at least half of them, most
// with the right suggestion, and the fixes put them right.
TEST_F(Report, FindsLabelsThatAreWrongOnPurpose) {
  std::vector<std::string> moved;
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 36; ++i) {
      const int label = i % 9 == 4 ? (c + 1 + i % 2) % 3 : c;
      const std::string path =
          "c" + std::to_string(label) + "/" + std::to_string(1000 * (c + 1) + i) + ".png";
      folder_.write("noisy/" + path,
                    make_png(32, 32, static_cast<unsigned>(5000 + 100 * c + i), static_cast<unsigned>(c)));
      if (label != c) moved.push_back(path);
    }
  }
  ASSERT_EQ(moved.size(), 12U);
  const std::string train = "train --data " + folder_.path("noisy") + kShort;
  ASSERT_EQ(
      cairn(train + " --folds 3 --seeds 3 --epochs 8 --patience 0 --out " + folder_.path("many")).status, 0);
  evaluate("--run " + folder_.path("many"));
  const std::vector<std::string> list = lines_of(read_file(folder_.path("many/label_errors.csv")));
  ASSERT_EQ(list.size(), 109U);
  EXPECT_EQ(list[0], "path,label,suggested,confidence,margin,likely");
  std::string fixes = "path,action,label\n";
  std::size_t found = 0, suggested = 0;
  for (std::size_t i = 1; i <= (list.size() - 1) / 5; ++i) {
    const std::string path = list[i].substr(0, list[i].find(','));
    if (std::find(moved.begin(), moved.end(), path) == moved.end()) continue;
    ++found;
    // The number's thousands say what is on the image, as a person would see; the suggestion stands behind
    // the label.
    const std::string is = std::string("c") + static_cast<char>(path[3] - 1);
    if (list[i].substr(list[i].find(',', path.size() + 1) + 1, 2) == is) ++suggested;
    fixes += path + ",label," + is + "\n";
  }
  EXPECT_GE(found, moved.size() / 2);
  EXPECT_GT(suggested, found / 2);
  folder_.write("fixes.csv", fixes);
  ASSERT_EQ(cairn(train + " --max-steps 1 --fixes " + folder_.path("fixes.csv") + " --out " +
                  folder_.path("mended"))
                .status,
            0);
  std::size_t wrong = 0;
  for (const std::string& line : lines_of(read_file(folder_.path("mended/split.csv")))) {
    const auto slash = line.find('/');
    if (slash == std::string::npos) continue;  // the header
    // cLABEL/NUMBER.png,CLASS,...
    const int is = line[slash + 1] - '1', said = line[line.find(',') + 2] - '0';
    wrong += is == said ? 0 : 1;
  }
  EXPECT_EQ(wrong, moved.size() - found);
}

TEST_F(Report, PredictTakesAListAndMarksWhatItIsNotSureOf) {
  train("run", "--max-steps 2");
  const std::string list = folder_.path("list.txt"), run = " --run " + folder_.path("run");
  folder_.write("list.txt",
                folder_.path("data/c1/100.png") + "\r\n" + folder_.path("data/c0/101.png") + "\n");
  // The rest of the command line, which takes standard input away, becomes a comment.
  const std::string got = folder_.path("got.jsonl");
  ASSERT_EQ(cairn("predict --json --quiet --unsure 1 -" + run + " <" + list + " >" + got + " #").status, 0);
  const std::vector<std::string> answers = lines_of(read_file(got));
  ASSERT_EQ(answers.size(), 2U);
  for (const std::string& line : answers) EXPECT_TRUE(json::parse(line)["unsure"].get<bool>());
  const Outcome table = cairn("predict --quiet --unsure 0.01 " + folder_.path("data/c0") + run);
  EXPECT_THAT(table.out, Not(HasSubstr("unsure")));
  const Outcome csv = cairn("predict --quiet --csv --unsure 1 " + folder_.path("data/c0") + run);
  EXPECT_THAT(lines_of(csv.out)[0], testing::EndsWith(",unsure"));
  EXPECT_THAT(lines_of(csv.out)[1], testing::EndsWith(",1"));
}

TEST_F(Report, TtaIsTheMeanOfAnImageAndItsMirrorImage) {
  train("run");
  const std::string left = folder_.path("data/c0/100.png");
  // The mirror image, written pixel by pixel.
  const auto logits = [&](const std::string& file, const std::string& more) {
    const Outcome o =
        cairn("predict --json --quiet --logits --run " + folder_.path("run") + " " + more + " " + file);
    return json::parse(o.out, nullptr, false)["logits"].get<std::vector<double>>();
  };
  const data::Image image = data::decode_image(data::read_file(left), {}, left);
  std::string ppm = "P6 " + std::to_string(image.width) + " " + std::to_string(image.height) + " 255\n";
  for (int y = 0; y < image.height; ++y)
    for (int x = image.width - 1; x >= 0; --x)
      for (int c = 0; c < 3; ++c)
        ppm += static_cast<char>(image.rgb[3 * (static_cast<std::size_t>(y) * image.width + x) + c]);
  folder_.write("mirrored.ppm", ppm);
  const std::vector<double> a = logits(left, ""), b = logits(folder_.path("mirrored.ppm"), ""),
                            both = logits(left, "--tta flip");
  ASSERT_EQ(both.size(), a.size());
  for (std::size_t c = 0; c < a.size(); ++c) EXPECT_NEAR(both[c], (a[c] + b[c]) / 2, 1e-5);
}

// For a ResNet the map is CAM: the answer's row of fc over the last feature map.
TEST_F(Report, ClassMapOfAResNetIsItsLastRowOverTheFeatures) {
  constexpr int kSide = 64;
  const auto model = models::make_model("resnet18", {.classes = 3, .image_size = kSide, .dropout = {}});
  model->eval();
  const ModelCard card{.model = "resnet18",
                       .classes = {"a", "b", "c"},
                       .image_size = kSide,
                       .resize = "stretch",
                       .normalization = {}};
  const data::Dataset dataset = data::open_dataset(folder_.path("data"));
  const std::vector<std::int64_t> items = {5};
  const std::vector<report::ClassMap> maps = report::class_maps(*model, card, dataset, items, {}, {});
  ASSERT_EQ(maps.size(), 1U);
  const report::ClassMap& map = maps[0];
  auto& classifier = dynamic_cast<models::Classifier&>(*model);
  const NoGrad no_grad;
  const Tensor features = classifier.features(
      preprocess(from_values<std::uint8_t>({1, kSide, kSide, 3}, map.seen.rgb), DType::f32));
  ASSERT_EQ(features.shape(), (Shape{1, 2, 2, 512}));
  std::vector<float> row;
  for (const nn::NamedTensor& t : model->named_parameters())
    if (t.name == "fc.weight") row = t.tensor.to_vector<float>();
  const std::vector<float> f = features.to_vector<float>();
  std::vector<double> want(4);
  for (std::size_t p = 0; p < 4; ++p)
    for (std::size_t c = 0; c < 512; ++c)
      want[p] += static_cast<double>(f[p * 512 + c]) *
                 static_cast<double>(row[static_cast<std::size_t>(map.answer) * 512 + c]);
  for (double& v : want) v = std::max(v, 0.0);
  const double most = *std::max_element(want.begin(), want.end());
  ASSERT_GT(most, 0);
  // The corners of the enlarged map are the cells' values.
  const std::size_t corners[4] = {0, kSide - 1, kSide * (kSide - 1), kSide * kSide - 1};
  for (std::size_t p = 0; p < 4; ++p)
    EXPECT_NEAR(static_cast<double>(map.strength[corners[p]]), want[p] / most, 1e-4) << p;
}

}  // namespace
}  // namespace cairn::app
