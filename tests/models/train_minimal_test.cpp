// Builds a tiny data set, trains on it with examples/train_minimal and reads what it saved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/io/weights.h"
#include "models/registry.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

TEST(TrainMinimal, TrainsAndSavesWeightsThatLoad) {
  const fs::path folder = fs::temp_directory_path() / ("cairn_example_" + std::to_string(::getpid()));
  // 20 images a class, plain colours that differ in brightness: bright or dark.
  for (const auto& [name, base] : {std::pair("bright", 170), std::pair("dark", 20)}) {
    fs::create_directories(folder / "data" / name);
    for (int i = 0; i < 20; ++i) {
      std::ofstream image(folder / "data" / name / (std::to_string(i) + ".ppm"), std::ios::binary);
      image << "P6\n8 8\n255\n" << std::string(8 * 8 * 3, static_cast<char>(base + 3 * i));
    }
  }
  const std::string weights = (folder / "w.safetensors").string();
  const std::string command =
      std::string(CAIRN_TRAIN_MINIMAL) + " " + (folder / "data").string() + " " + weights + " 2 32";
  EXPECT_EQ(std::system(command.c_str()), 0);
  const auto model = models::make_model("resnet18", {.classes = 2, .seed = 5});
  EXPECT_EQ(io::load_weights(*model, weights).matched, 102);  // 62 parameters, 40 running statistics
  EXPECT_NE(std::system((std::string(CAIRN_TRAIN_MINIMAL) + " 2>" + (folder / "usage").string()).c_str()), 0);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace cairn
