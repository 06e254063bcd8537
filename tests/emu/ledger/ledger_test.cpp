// One step of training of each model, in bytes, held against the least that it needs (docs/ledger.md) and
// against the table of the last time, which is a file:
//   scripts/ledger   makes it and docs/ledger.md anew.
#include <cudnn.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/emu/ledger/ledger_page.h"
#include "tests/emu/ledger/step_ledger.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(CAIRN_SOURCE_DIR) / "tests/emu/ledger";

struct Case {
  const char* model;
  DType dtype;
  std::string name() const { return std::string(model) + "_" + std::string(name_of(dtype)); }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name(); }

std::string text_of(const char* format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

/// A line a kernel, convolution or product, and one for the whole step.
std::string table_of(const StepLedger& ledger, std::int64_t held) {
  std::string text;
  std::size_t all = 0;
  for (const StepRow& r : rows_of(ledger)) {
    text += text_of("%s: %lld times, %.0f bytes an image and %.0f", r.name.c_str(),
                    static_cast<long long>(r.counted.launches), r.bytes_per_image, r.bytes_per_step);
    if (r.counted.sectors > 0) text += text_of(", sectors %.3f", r.counted.sector_efficiency());
    if (r.counted.waves > 0)
      text +=
          text_of(", bank conflicts %lld", static_cast<long long>(r.counted.waves - r.counted.ideal_waves));
    text += '\n';
    all += static_cast<std::size_t>(r.counted.launches);
  }
  return text + text_of("all: %zu times, %.0f bytes an image and %.0f, held at batch 32: %lld\n", all,
                        ledger.bytes_per_image(), ledger.bytes_per_step(), static_cast<long long>(held));
}

/// As they were counted, for the page.
std::vector<StepHeld>& counted_steps() {
  static auto& steps = *new std::vector<StepHeld>;
  return steps;
}
class WritePage : public testing::Environment {
  void TearDown() override {
    if (std::getenv("CAIRN_WRITE_LEDGER"))
      std::ofstream(std::filesystem::path(CAIRN_SOURCE_DIR) / "docs/ledger.md")
          << ledger_page(counted_steps());
  }
};
const testing::Environment* const kWritePage = testing::AddGlobalTestEnvironment(new WritePage);

class Ledger : public testing::TestWithParam<Case> {
 protected:
  static const StepLedger& ledger() {
    static std::map<std::string, StepLedger> all;
    const auto [it, fresh] = all.try_emplace(GetParam().name());
    if (fresh) it->second = step_ledger(GetParam().model, GetParam().dtype);
    return it->second;
  }
};

// Elementwise kernels and batch norm use every sector whole, or nearly.
TEST_P(Ledger, SectorsAreUsedWhole) {
  int seen = 0;
  for (const StepRow& r : rows_of(ledger())) {
    const bool batch_norm = r.name.starts_with("walk_kernel") || r.name.starts_with("sums_kernel") ||
                            r.name.starts_with("finish_kernel");
    if (!batch_norm && !r.name.starts_with("elementwise_kernel")) continue;
    ++seen;
    EXPECT_GE(r.counted.sector_efficiency(), 0.95) << r.name;
    EXPECT_EQ(r.counted.waves, r.counted.ideal_waves) << r.name << ": bank conflicts";
  }
  EXPECT_GE(seen, 3);
}

// 14 passes over the outputs of ResNet-18's convolutions are the floor; residuals, the pool and the first
// layer's input stand beside them. The parameters, which no pass counts, are a fixed sum a step: in fp32 they
// fit in too at batch 256; in 16 bits, where activations are half and Adam's moments are not, they are 3 %
// more.
TEST_P(Ledger, AResNetMovesLittleMoreThanFourteenPasses) {
  if (GetParam().model == std::string("model_cnn"))
    GTEST_SKIP() << "without batch norm there are fewer passes";
  EXPECT_EQ(ledger().convolution_outputs, 2'483'712) << "elements an image, by hand from the architecture";
  EXPECT_LE(ledger().bytes_per_image(), 1.15 * ledger().floor(1)) << "activations";
  const double all = GetParam().dtype == DType::f32 ? 1.15 : 1.19;
  EXPECT_LE(ledger().bytes(256), all * ledger().floor(256)) << "with the parameters, at batch 256";
}

TEST_P(Ledger, NothingHasRisenUnnoticed) {
  const std::filesystem::path file =
      kFolder / "steps" / (GetParam().name() + "-" + std::to_string(cudnnGetVersion()) + ".txt");
  const std::int64_t held = memory_held(GetParam().model, GetParam().dtype, 32);
  const std::string now = table_of(ledger(), held);
  if (std::getenv("CAIRN_WRITE_LEDGER")) {
    std::ofstream(file) << now;
    counted_steps().push_back({ledger(), held, memory_held(GetParam().model, GetParam().dtype, 256)});
    return;
  }
  std::ifstream in(file);
  if (!in) GTEST_SKIP() << "no table for this version of cuDNN: scripts/ledger makes it";
  std::stringstream text;
  text << in.rdbuf();
  std::istringstream before(text.str()), after(now);
  std::map<std::string, bool> known;
  for (std::string line; std::getline(before, line);) known[line] = false;
  for (std::string line; std::getline(after, line);) {
    const auto it = known.find(line);
    EXPECT_NE(it, known.end()) << "new: " << line;
    if (it != known.end()) it->second = true;
  }
  for (const auto& [line, still] : known) EXPECT_TRUE(still) << "gone: " << line;
  if (HasFailure()) ADD_FAILURE() << "if this is meant: scripts/ledger, and commit what it writes";
}

INSTANTIATE_TEST_SUITE_P(Steps, Ledger,
                         testing::Values(Case{"resnet18", DType::f32}, Case{"resnet18", DType::bf16},
                                         Case{"resnet_classes", DType::bf16}, Case{"model_cnn", DType::f32},
                                         Case{"model_cnn", DType::bf16}),
                         [](const auto& p) { return p.param.name(); });

}  // namespace
}  // namespace cairn
