// `cairn export`: what it writes is read here with ONNX's library and by hand, not by the code that wrote it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/export/sample.h"
#include "apps/export/sha256.h"
#include "data/encode.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"
#include "models/registry.h"
#include "tests/apps/program.h"

#ifdef CAIRN_HAVE_ONNX
#include "apps/export/onnx_interpreter.h"
#include "apps/export/onnx_model.h"
#endif

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string digest(const std::string& text) {
  return sha256({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

TEST(Sha256, IsTheStandards) {
  // FIPS 180-4's examples, and both sides of a block's end (hashlib's answers).
  EXPECT_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(digest(std::string(55, 'a')), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  EXPECT_EQ(digest(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

class Export : public testing::Test {
 protected:
  /// Random weights of a model in a file of their own, with the card in it.
  std::string weights(const std::string& model, int size) {
    const ModelCard card{.model = model, .classes = {"a", "b", "c"}, .image_size = size, .normalization = {}};
    const auto module =
        models::make_model(model, {.classes = 3, .image_size = size, .seed = 7, .dropout = {}});
    const std::string path = folder_.path(model + ".safetensors");
    io::save_weights(*module, path, card_metadata(card));
    return path;
  }
  Outcome run(const std::string& weights, const std::string& out, const std::string& more) const {
    return cairn("export --device cpu --weights " + weights + " " + folder_.path(out) + " " + more);
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& e : std::filesystem::directory_iterator(folder_.path("out")))
      names.push_back(e.path().filename().string());
    return names;
  }
  data::TempFolder folder_;
};

TEST_F(Export, SafetensorsHoldTheSameBitsAndTheProofOfPreprocessing) {
  const std::string from = weights("model_cnn", 16);
  const Outcome o = run(from, "w.safetensors", "--format safetensors --json");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("verified: 10 tensors read back bit for bit"));
  EXPECT_EQ(json::parse(lines_of(o.out).back())["largest_difference"], 0);
  const io::StoredTensors a = io::open_safetensors(from),
                          b = io::open_safetensors(folder_.path("w.safetensors"));
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(a.tensors[i].name, b.tensors[i].name);
    EXPECT_EQ(a.tensors[i].read(), b.tensors[i].read());
  }
  for (const auto& [key, value] : a.metadata) EXPECT_EQ(b.metadata.at(key), value) << key;
  EXPECT_EQ(b.metadata.at("sample_input_sha256").size(), 64U);
  EXPECT_EQ(json::parse(b.metadata.at("sample_logits")).size(), 3U);
}

TEST_F(Export, TheSampleSpeaksForItself) {
  // Decoded by libpng's rules: 49 x 65 for S = 32, and its pixels by their formula.
  const std::vector<std::uint8_t> png = sample_png(32);
  const ModelCard same{
      .model = "model_cnn", .classes = {"a"}, .image_size = 65, .resize = "pad", .normalization = {}};
  const std::vector<std::uint8_t> padded = expected_input(png, same, "sample");
  // 49 x 65 padded to 65 x 65: 8 white columns on each side, the image untouched between them.
  for (const int y : {0, 13, 64})
    for (const int x : {0, 11, 48}) {
      const std::size_t at = (static_cast<std::size_t>(y) * 65 + static_cast<std::size_t>(x) + 8) * 3;
      EXPECT_EQ(padded[at], static_cast<std::uint8_t>(x * 7 + y * 3));
      EXPECT_EQ(padded[at + 1], ((x ^ y) & 15) * 17);
      EXPECT_EQ(padded[at + 2], (x / 8 + y / 16) % 2 == 0 ? 230 : 20);
    }
  EXPECT_EQ(padded[0], 255);
}

TEST_F(Export, WrongUseIsNamedAndNothingIsLeft) {
  std::filesystem::create_directory(folder_.path("out"));
  const std::string from = weights("model_cnn", 16);
  const auto refused = [&](const std::string& more, const char* says, const std::string& out = "out/w") {
    const Outcome o = run(from, out, more);
    EXPECT_EQ(o.status, 2) << o.err;
    EXPECT_THAT(o.err, HasSubstr(says));
    EXPECT_THAT(files(), testing::IsEmpty());
  };
  refused("--format pickle", "pickle");
  refused("", "--format");
  refused("--format safetensors --softmax", "--softmax goes with --format onnx");
  refused("--format safetensors", "is a folder", "out");
  refused("--format safetensors --data " + folder_.path("nowhere"), "nowhere");
  EXPECT_EQ(run(from, "missing/w", "--format safetensors").status, 1);
#ifndef CAIRN_HAVE_ONNX
  refused("--format onnx", "libonnx-dev");
#endif
}

#ifdef CAIRN_HAVE_ONNX

class ExportOnnx : public Export, public testing::WithParamInterface<const char*> {};

TEST_P(ExportOnnx, IsCheckedOnRealImages) {
  const std::string model = GetParam();
  const int size = model == "model_cnn" ? 16 : 32;
  make_data(folder_, 3, 4);
  const Outcome o =
      run(weights(model, size), "m.onnx", "--format onnx --json --images 5 --data " + folder_.path("data"));
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("verified: ONNX's checker"));
  const json j = json::parse(lines_of(o.out).back());
  EXPECT_EQ(j["images"], 6);  // and the sample
  EXPECT_LT(j["largest_difference"].get<double>(), 1e-4);
  // The metadata's sample gives the metadata's logits through the graph alone.
  const OnnxInterpreter onnx(folder_.path("m.onnx"), {});
  const io::Metadata metadata = onnx.metadata();
  ModelCard card;
  read_card(metadata, "m.onnx", card);
  EXPECT_EQ(card.model, model);
  EXPECT_EQ(card.classes, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(metadata.at("sample_image"), data::base64(sample_png(size)));
  const std::vector<std::uint8_t> input = expected_input(sample_png(size), card, "sample");
  EXPECT_EQ(metadata.at("sample_input_sha256"), sha256(input));
  const std::vector<float> got =
      onnx.run(from_values<std::uint8_t>({1, size, size, 3}, input)).to_vector<float>();
  const auto want = json::parse(metadata.at("sample_logits")).get<std::vector<float>>();
  for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(got[c], want[c], 1e-4 * std::max(1.0f, std::abs(want[c])));
  if (model == "resnet_classes") {
    EXPECT_THAT(got, testing::Each(testing::Ge(0)));
  }
}
INSTANTIATE_TEST_SUITE_P(Models, ExportOnnx,
                         testing::Values("resnet18", "resnet34", "resnet_classes", "model_cnn"));

TEST_F(Export, SoftmaxGivesProbabilities) {
  ASSERT_EQ(run(weights("model_cnn", 16), "m.onnx", "--format onnx --softmax --quiet").status, 0);
  const OnnxInterpreter onnx(folder_.path("m.onnx"), {});
  const std::vector<float> p = onnx.run(zeros({2, 16, 16, 3}, DType::u8)).to_vector<float>();
  ASSERT_EQ(p.size(), 6U);
  EXPECT_NEAR(p[0] + p[1] + p[2], 1, 1e-6);
}

TEST_F(Export, AnUnknownModelHasNoGraph) {
  const auto module = models::make_model("model_cnn", {.classes = 2, .image_size = 16, .dropout = {}});
  const ModelCard card{.model = "other", .classes = {"a", "b"}, .image_size = 16, .normalization = {}};
  EXPECT_THAT([&] { onnx_model(*module, card, {}, false); },
              testing::ThrowsMessage<std::exception>(HasSubstr("use --format safetensors")));
}

#endif

}  // namespace
}  // namespace cairn::app
