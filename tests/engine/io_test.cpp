#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "engine/autograd.h"
#include "engine/io/checkpoint.h"
#include "engine/io/pth.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"
#include "engine/nn/layers.h"
#include "kernels/atomic_file.h"
#include "tests/fixture_file.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

class Io : public testing::Test {
 protected:
  Io() {
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(name.begin(), name.end(), '/', '_');
    folder_ = fs::temp_directory_path() / ("cairn_io_" + std::to_string(::getpid()) + '_' + name);
    fs::create_directories(folder_);
  }
  ~Io() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(folder_)) names.push_back(e.path().filename().string());
    return names;
  }

 private:
  fs::path folder_;
};

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string safetensors(const std::string& header, const std::string& data) {
  std::string prefix(8, '\0');
  const std::uint64_t n = header.size();
  std::memcpy(prefix.data(), &n, 8);
  return prefix + header + data;
}

/// The tensors of the fixtures plain.pth, nested.pth and plain.safetensors, all ramps in steps of 1/8.
struct FixtureModule : nn::Module {
  FixtureModule()
      : conv(register_parameter("conv", zeros({2, 2, 2, 3}), nn::Layout::filter)),
        bias(register_parameter("bias", zeros({2}))),
        transposed(register_parameter("transposed", zeros({2, 3}))),
        half(register_parameter("half", zeros({4}))),
        brain(register_parameter("brain", zeros({4}))),
        wide(register_buffer("wide", zeros({3}))) {}
  Tensor forward(const Tensor& x) override { return x; }
  Tensor &conv, &bias, &transposed, &half, &brain, &wide;

  void expect_fixture() const {
    const std::vector<float> filter = conv.to_vector<float>();
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t c = 0; c < 3; ++c)
        for (std::size_t r = 0; r < 2; ++r)
          for (std::size_t s = 0; s < 2; ++s)
            EXPECT_EQ(filter[((k * 2 + r) * 2 + s) * 3 + c],
                      static_cast<float>(((k * 3 + c) * 2 + r) * 2 + s) / 8.0f);
    EXPECT_THAT(bias.to_vector<float>(), ElementsAre(0.375f, 0.5f));
    EXPECT_THAT(transposed.to_vector<float>(), ElementsAre(0, 0.25f, 0.5f, 0.125f, 0.375f, 0.625f));
    EXPECT_THAT(half.to_vector<float>(), ElementsAre(0, 0.125f, 0.25f, 0.375f));
    EXPECT_THAT(brain.to_vector<float>(), ElementsAre(0, 0.125f, 0.25f, 0.375f));
    EXPECT_THAT(wide.to_vector<float>(), ElementsAre(0, 0.125f, 0.25f));
  }
};

class LoadFixture : public testing::TestWithParam<const char*> {};

TEST_P(LoadFixture, GivesTheTensors) {
  FixtureModule module;
  const io::LoadReport report = io::load_weights(module, test::fixture_path(GetParam()));
  EXPECT_EQ(report.matched, 6);
  EXPECT_THAT(report.extra, ElementsAre("count"));
  module.expect_fixture();
}
INSTANTIATE_TEST_SUITE_P(Files, LoadFixture, testing::Values("plain.pth", "nested.pth", "plain.safetensors"));

TEST(LoadWeights, BringsTheMetadata) {
  FixtureModule module;
  EXPECT_EQ(io::load_weights(module, test::fixture_path("plain.safetensors")).metadata,
            (io::Metadata{{"format", "pt"}, {"made", "by safetensors"}}));
}

TEST(Pth, RunsNoCode) {
  EXPECT_THAT([] { io::open_pth(test::fixture_path("evil.pth")); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("evil.pth"), HasSubstr("posix.system"))));
}

/// A network whose weights are all different.
struct Small : nn::Module {
  explicit Small(std::int64_t classes = 3, std::uint64_t seed = 1) {
    nn::Initializer init(seed);
    make<nn::Conv2d>("conv", init, nn::Conv2dOptions{.in_channels = 3, .out_channels = 4});
    make<nn::BatchNorm2d>("bn", init, 4);
    fc = &make<nn::Linear>("fc", init, nn::LinearOptions{.in_features = 4, .out_features = classes});
  }
  Tensor forward(const Tensor& x) override { return (*fc)(x); }
  nn::Linear* fc;
};

void expect_equal(const nn::Module& a, const nn::Module& b) {
  const auto x = a.named_tensors();
  const auto y = b.named_tensors();
  ASSERT_EQ(x.size(), y.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_EQ(x[i].tensor.to_vector<float>(), y[i].tensor.to_vector<float>()) << x[i].name;
}

TEST_F(Io, WeightsSurviveARoundTrip) {
  const Small saved(3, 1);
  Small loaded(3, 2);
  io::save_weights(saved, path("w.safetensors"), {{"classes", "[\"a\",\"b\"]"}});
  const io::LoadReport report = io::load_weights(loaded, path("w.safetensors"));
  expect_equal(saved, loaded);
  EXPECT_EQ(report.matched, 8);
  EXPECT_THAT(report.extra, IsEmpty());
  EXPECT_EQ(report.metadata.at("classes"), "[\"a\",\"b\"]");
  // What another program sees: PyTorch's shape, its batch count, nothing left beside the file.
  const io::StoredTensors stored = io::open_safetensors(path("w.safetensors"));
  for (const io::StoredTensor& t : stored.tensors) {
    if (t.name == "conv.weight") {
      EXPECT_EQ(t.shape, (Shape{4, 3, 3, 3}));
    }
    if (t.name == "bn.num_batches_tracked") {
      EXPECT_EQ(t.dtype, DType::i64);
    }
  }
  EXPECT_EQ(stored.tensors.size(), 9u);
  EXPECT_THAT(files(), ElementsAre("w.safetensors"));
}

TEST_F(Io, AHeadOfAnotherSizeIsNamedAndLeft) {
  io::save_weights(Small(3, 1), path("w.safetensors"));
  Small loaded(5, 2);
  const Small untouched(5, 2);
  const io::LoadReport report = io::load_weights(loaded, path("w.safetensors"), {.head = "fc"});
  EXPECT_EQ(report.matched, 6);
  EXPECT_THAT(report.summary(), AllOf(HasSubstr("6 tensors loaded"), HasSubstr("left at its first values"),
                                      HasSubstr("fc.weight [3,4] in the file, [5,4] in the model")));
  EXPECT_EQ(loaded.fc->bias().to_vector<float>(), untouched.fc->bias().to_vector<float>());
}

TEST_F(Io, WeightsOfAnotherModelAreRefusedWhole) {
  io::save_weights(Small(3, 1), path("w.safetensors"));
  Small other(5, 2);
  const Small untouched(5, 2);
  EXPECT_THAT([&] { io::load_weights(other, path("w.safetensors")); },
              ThrowsMessage<InputError>(
                  AllOf(HasSubstr("of another model"), HasSubstr("fc.weight [3,4] in the file"))));
  expect_equal(other, untouched);
  FixtureModule third;
  EXPECT_THAT([&] { io::load_weights(third, path("w.safetensors")); },
              ThrowsMessage<InputError>(
                  AllOf(HasSubstr("missing: conv and 5 more"), HasSubstr("unknown to the model"))));
  EXPECT_THAT([&] { io::load_weights(third, path("nowhere.safetensors")); },
              ThrowsMessage<InputError>(HasSubstr("No such file")));
  EXPECT_THAT([&] { io::load_weights(third, write("text.pth", "these are no weights")); },
              ThrowsMessage<InputError>(HasSubstr("neither a safetensors file nor a PyTorch state dict")));
}

struct BadHeader {
  const char* header;
  std::size_t data;
  const char* says;
};
class BadSafetensors : public Io, public testing::WithParamInterface<BadHeader> {};

TEST_P(BadSafetensors, IsRefusedByName) {
  const std::string file =
      write("bad.safetensors", safetensors(GetParam().header, std::string(GetParam().data, '\1')));
  EXPECT_THAT([&] { io::open_safetensors(file); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("bad.safetensors"), HasSubstr(GetParam().says))));
}
INSTANTIATE_TEST_SUITE_P(
    Headers, BadSafetensors,
    testing::Values(
        BadHeader{"{", 0, "not valid JSON"}, BadHeader{"[1]", 0, "not valid JSON"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "cut off or damaged"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 12, "cut off or damaged"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 8, "needs 8 bytes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8, "needs 4 bytes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 8, "expected [begin, end]"},
        BadHeader{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            4, "overlap or leave a hole"},
        BadHeader{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
            12, "overlap or leave a hole"},
        BadHeader{
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            4, "twice"},
        BadHeader{R"({"a":{"dtype":"F8","shape":[4],"data_offsets":[0,4]}})", 4, "of type 'F8'"},
        BadHeader{R"({"a":{"dtype":"U8","shape":[1,1,1,1,4],"data_offsets":[0,4]}})", 4, "at most 4 axes"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
                  "impossible shape"},
        BadHeader{R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,6]}})", 6, "impossible shape"},
        BadHeader{R"({"a":{"dtype":"F32"}})", 0, "lacks"}, BadHeader{R"({"a":3})", 0, "lacks"},
        BadHeader{R"({"__metadata__":{"x":1}})", 0, "is not text"}));

TEST_F(Io, AnAbsurdHeaderLengthIsRefused) {
  std::string content = safetensors("{}", "");
  content[7] = '\x7f';
  EXPECT_THAT([&] { io::open_safetensors(write("bad", content)); },
              ThrowsMessage<InputError>(HasSubstr("its header would be")));
  EXPECT_THAT([&] { io::open_safetensors(write("short", "abc")); },
              ThrowsMessage<InputError>(HasSubstr("too short")));
}

/// Whatever a damaged file does, it is refused with one line or read: no crash, no hang, no huge allocation.
class Damaged : public Io, public testing::WithParamInterface<const char*> {};

TEST_P(Damaged, EveryCutAndEveryChangedByteIsSurvived) {
  const std::string whole = slurp(test::fixture_path(GetParam()));
  ASSERT_FALSE(whole.empty());
  int refused = 0;
  FixtureModule module;
  const auto attempt = [&](const std::string& content) {
    const std::string file = write("damaged", content);
    try {
      io::load_weights(module, file, {.allow_missing = true});
    } catch (const Error& e) {
      ++refused;
      EXPECT_THAT(std::string(e.what()), testing::Not(HasSubstr("\n")));
    }
  };
  for (std::size_t n = 0; n < whole.size(); n += 7) attempt(whole.substr(0, n));
  EXPECT_EQ(refused, static_cast<int>((whole.size() + 6) / 7));  // every cut is noticed
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 0x81);  // the highest and the lowest bit
    attempt(changed);
  }
}
INSTANTIATE_TEST_SUITE_P(Files, Damaged, testing::Values("plain.pth", "plain.safetensors"));

TEST_F(Io, AFailedWriteKeepsTheOldFile) {
  io::save_weights(Small(3, 1), path("w.safetensors"));
  const std::string before = slurp(path("w.safetensors"));
  {
    AtomicFile half(path("w.safetensors"));
    half.write("half", 4);
  }
  EXPECT_EQ(slurp(path("w.safetensors")), before);
  EXPECT_THAT(files(), ElementsAre("w.safetensors"));
  EXPECT_THAT([&] { io::save_weights(Small(), path("missing/w.safetensors")); },
              ThrowsMessage<Error>(AllOf(HasSubstr("cannot write"), HasSubstr("No such file or directory"))));
}

TEST_F(Io, ACheckpointGoesOnBitForBit) {
  const auto run = [&](Small& model, optim::Optimizer& optimizer, int from, int to) {
    for (int step = from; step < to; ++step) {
      optimizer.zero_grad();
      sum(model(full({2, 4}, 0.1 * (step + 1)))).backward();
      optimizer.step(0.01f);
    }
  };
  Small through(3, 1), before(3, 1), after(3, 9);
  optim::FlatParameters a(through), b(before), c(after);
  const optim::OptimizerOptions options{.weight_decay = 0.01f};
  const auto oa = optim::make_optimizer(a, options), ob = optim::make_optimizer(b, options),
             oc = optim::make_optimizer(c, options);
  run(through, *oa, 0, 6);
  run(before, *ob, 0, 3);
  io::save_checkpoint(path("last.state"), before, *ob, R"({"epoch":3})");
  EXPECT_EQ(io::read_progress(path("last.state")), R"({"epoch":3})");
  EXPECT_EQ(io::load_checkpoint(path("last.state"), after, *oc), R"({"epoch":3})");
  EXPECT_EQ(oc->steps(), 3);
  run(after, *oc, 3, 6);
  expect_equal(through, after);
}

TEST_F(Io, ACheckpointHoldsWhatWasThereWhenItWasTaken) {
  Small model(3, 1), then(3, 1), restored(3, 9);
  optim::FlatParameters flat(model), other(restored);
  const auto optimizer = optim::make_optimizer(flat, {}), empty_one = optim::make_optimizer(other, {});
  io::Checkpoint checkpoint(model, *optimizer);
  checkpoint.take();
  sum(model(full({2, 4}, 0.1))).backward();
  optimizer->step(0.01f);
  int calls = 0;
  checkpoint.write(path("last.state"), "{}", [&] {
    ++calls;
    EXPECT_THAT(files(), testing::Not(testing::Contains("last.state")));
  });
  EXPECT_EQ(calls, 1);
  io::load_checkpoint(path("last.state"), restored, *empty_one);
  EXPECT_EQ(empty_one->steps(), 0);
  expect_equal(restored, then);
}

TEST_F(Io, NoBitOfACheckpointChangesUnnoticed) {
  Small model(3, 1);
  optim::FlatParameters flat(model);
  const auto optimizer = optim::make_optimizer(flat, {});
  io::save_checkpoint(path("last.state"), model, *optimizer, R"({"epoch":3})");
  const std::string whole = slurp(path("last.state"));
  const auto refused = [&](const std::string& bytes) {
    std::ofstream(path("last.state"), std::ios::binary) << bytes;
    try {
      io::read_progress(path("last.state"));
      return false;
    } catch (const InputError&) {
      return true;
    }
  };
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
    EXPECT_TRUE(refused(changed)) << "byte " << i;
    EXPECT_TRUE(refused(whole.substr(0, i))) << "cut at " << i;
  }
  EXPECT_FALSE(refused(whole));
}

TEST_F(Io, ACheckpointOfAnotherKindIsRefused) {
  Small model(3, 1);
  optim::FlatParameters flat(model);
  const auto adam = optim::make_optimizer(flat, {});
  io::save_checkpoint(path("last.state"), model, *adam, "{}");
  const auto sgd = optim::make_optimizer(flat, {.kind = optim::OptimizerKind::sgd});
  EXPECT_THAT([&] { io::load_checkpoint(path("last.state"), model, *sgd); },
              ThrowsMessage<InputError>(HasSubstr("resume with the options of the run")));
  io::save_weights(model, path("w.safetensors"));
  EXPECT_THAT([&] { io::read_progress(path("w.safetensors")); },
              ThrowsMessage<InputError>(HasSubstr("not a checkpoint of cairn")));
}

}  // namespace
}  // namespace cairn
