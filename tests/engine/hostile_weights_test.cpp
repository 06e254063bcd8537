// Files of weights made to do harm: each is refused in one line, with no memory asked for by a number in the
// file. Archives and pickles are put together here byte by byte, as an attacker would.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>

#include "engine/io/pth.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"
#include "engine/nn/layers.h"
#include "kernels/error.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using std::string_literals::operator""s;

std::string le(std::uint64_t value, int width) {
  std::string bytes;
  for (int i = 0; i < width; ++i) bytes += static_cast<char>(i < 8 ? value >> (8 * i) : 0);
  return bytes;
}

std::string deflated(const std::string& data) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

struct ZipEntry {
  std::string name, data;
  bool packed = false;
  std::uint64_t claimed = 0;  // size in the directory, where it is not the data's
  std::uint16_t method = 0xFFFF;
  std::uint16_t flags = 0;
};

/// PKWARE's APPNOTE.TXT, 4.3: local headers and data, the directory, its end.
std::string zip(const std::vector<ZipEntry>& entries, std::uint32_t directory_offset = 0) {
  std::string file, directory;
  for (const ZipEntry& e : entries) {
    const std::string data = e.packed ? deflated(e.data) : e.data;
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(e.data.data()), e.data.size());
    const std::uint16_t method = e.method != 0xFFFF ? e.method : e.packed ? 8 : 0;
    const std::uint64_t size = e.claimed ? e.claimed : e.data.size();
    const std::string common = le(e.flags, 2) + le(method, 2) + le(0, 4) + le(crc, 4) + le(data.size(), 4) +
                               le(size, 4) + le(e.name.size(), 2) + le(0, 2);
    directory +=
        "PK\1\2"s + le(20, 2) + le(20, 2) + common + le(0, 2 + 2 + 2 + 4) + le(file.size(), 4) + e.name;
    file += "PK\3\4"s + le(20, 2) + common + e.name + data;
  }
  const auto offset = directory_offset ? directory_offset : static_cast<std::uint32_t>(file.size());
  return file + directory + "PK\5\6"s + le(0, 4) + le(entries.size(), 2) + le(entries.size(), 2) +
         le(directory.size(), 4) + le(offset, 4) + le(0, 2);
}

// Pickle opcodes, Lib/pickletools.py.
std::string text(const std::string& s) { return "X" + le(s.size(), 4) + s; }
std::string integer(std::uint64_t v) { return "\x8a\x08"s + le(v, 8); }
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string storage(const std::string& key, std::uint64_t elements,
                    const std::string& type = "FloatStorage") {
  return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") + integer(elements) + "tQ";
}
std::string tensor(const std::string& of, std::uint64_t offset, const std::string& size,
                   const std::string& stride) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + of + integer(offset) + size + stride +
         "\x89}tR";
}
std::string one(std::uint64_t n) { return "(" + integer(n) + "t"; }
std::string state_dict(const std::string& items) { return "\x80\x02}(" + items + "u."; }
std::string pth(const std::string& pickle, const std::string& data = std::string(16, '\1')) {
  return zip({{.name = "a/data.pkl", .data = pickle}, {.name = "a/data/0", .data = data}});
}

std::string safetensors(const std::string& header, const std::string& data = {}) {
  return le(header.size(), 8) + header + data;
}

class Vector4 : public nn::Module {
 public:
  Vector4() : w(register_parameter("w", zeros({4}))) {}
  Tensor forward(const Tensor& x) override { return x; }
  Tensor& w;
};

struct Hostile {
  const char* name;
  std::function<std::string()> content;
  const char* says;  // a part of the message
};
std::ostream& operator<<(std::ostream& out, const Hostile& h) { return out << h.name; }

class HostileWeights : public testing::TestWithParam<Hostile> {};

std::string temporary() {
  return (fs::temp_directory_path() / ("cairn_hostile_" + std::to_string(::getpid()))).string();
}

// What load_weights says of it; empty where it is taken.
std::string refusal(const std::string& file) {
  Vector4 module;
  try {
    io::load_weights(module, file);
    return {};
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST_P(HostileWeights, AreRefusedInOneLineAndLittleMemory) {
  const std::string file = temporary();
  std::ofstream(file, std::ios::binary) << GetParam().content();
  const std::string said = refusal(file);
  EXPECT_THAT(said, testing::HasSubstr(GetParam().says));
  EXPECT_THAT(said, testing::StartsWith(file));
  EXPECT_THAT(said, testing::Not(testing::ContainsRegex("[\n\r\x01-\x08]")));
  EXPECT_LT(said.size(), 500U);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // The same, with no more than 64 MiB (and five times the file) to be had beyond what is mapped now.
  EXPECT_EXIT(
      {
        std::ifstream statm("/proc/self/statm");
        rlim_t pages = 0;
        statm >> pages;
        const rlim_t most = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20) +
                            5 * static_cast<rlim_t>(fs::file_size(file));
        rlimit limit{};
        limit.rlim_cur = limit.rlim_max = most;
        ::setrlimit(RLIMIT_AS, &limit);
        ::_exit(refusal(file).empty() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
#endif
  fs::remove(file);
}

const std::string kFour = R"({"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
const std::string kSixteen(16, '\1');
std::string entry(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

INSTANTIATE_TEST_SUITE_P(
    Safetensors, HostileWeights,
    testing::Values(
        Hostile{"Empty", [] { return ""s; }, "empty"},
        Hostile{"LengthAlone", [] { return le(8, 8); }, "neither"},
        Hostile{"HeaderBeyondTheFile", [] { return le(17, 8) + "{}" + std::string(14, ' '); }, "cut off"},
        Hostile{"HeaderOfExabytes", [] { return le(~std::uint64_t{0}, 8) + "{}"; }, "cut off"},
        Hostile{"HeaderWrapsAround", [] { return le(~std::uint64_t{0} - 7, 8) + "{}"; }, "cut off"},
        Hostile{"Nesting",
                [] {
                  return safetensors(R"({"w":)" + std::string(4 << 20, '[') + std::string(4 << 20, ']') +
                                     "}");
                },
                "nested too deeply"},
        Hostile{"NestingNeverClosed", [] { return safetensors("{" + std::string(1 << 20, '[')); },
                "nested too deeply"},
        Hostile{"OffsetsBeyond64Bits",
                [] {
                  return safetensors(
                      entry(R"("dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551632])"),
                      kSixteen);
                },
                "expected [begin, end]"},
        Hostile{"OffsetsWrapAround",
                [] {
                  return safetensors(
                      entry(R"("dtype":"F32","shape":[4],"data_offsets":[18446744073709551608,8])"),
                      kSixteen);
                },
                "needs 16 bytes"},
        Hostile{
            "OffsetsAtTheEnd",
            [] {
              return safetensors(
                  entry(
                      R"("dtype":"F32","shape":[4],"data_offsets":[18446744073709551599,18446744073709551615])"),
                  kSixteen);
            },
            "leave a hole"},
        Hostile{"FloatingOffsets",
                [] {
                  return safetensors(entry(R"("dtype":"F32","shape":[4],"data_offsets":[0.0,16.0])"),
                                     kSixteen);
                },
                "expected [begin, end]"},
        Hostile{"HugeShape",
                [] {
                  return safetensors(
                      entry(R"("dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104])"));
                },
                "cut off"},
        Hostile{"ShapeOverflowsToFour",
                [] {
                  return safetensors(
                      entry(R"("dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16])"),
                      kSixteen);
                },
                "impossible shape"},
        Hostile{"ZeroTimesHuge",
                [] {
                  return safetensors(
                      entry(R"("dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0])"));
                },
                "another model"},
        Hostile{"NegativeShape",
                [] {
                  return safetensors(entry(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])"), kSixteen);
                },
                "impossible shape"},
        Hostile{"TypeOfAnotherKind",
                [] {
                  return safetensors(entry(R"("dtype":["F32"],"shape":[4],"data_offsets":[0,16])"), kSixteen);
                },
                "lacks"},
        Hostile{
            "IntegersForWeights",
            [] { return safetensors(entry(R"("dtype":"I32","shape":[4],"data_offsets":[0,16])"), kSixteen); },
            "'w' is int32, expected a floating dtype"},
        Hostile{"UnknownType",
                [] {
                  return safetensors(entry(R"("dtype":"F8_E4M3\u0007","shape":[16],"data_offsets":[0,16])"),
                                     kSixteen);
                },
                "of type 'F8_E4M3 '"},
        Hostile{"NotUtf8", [] { return safetensors("{\"w\xff\":" + kFour.substr(5), kSixteen); },
                "not valid JSON"},
        Hostile{"LongName", [] { return safetensors("{\"" + std::string(1 << 20, 'n') + "\":3}"); },
                "nnn...' lacks"},
        Hostile{"LineBreakInAName", [] { return safetensors(R"({"a\nb":3})"); }, "'a b' lacks"},
        Hostile{"Trailing", [] { return safetensors(kFour, kSixteen + "more"); }, "cut off or damaged"},
        Hostile{"AnotherModel",
                [] {
                  return safetensors(R"({"v":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", kSixteen);
                },
                "missing: w; unknown to the model: v"},
        Hostile{"AnotherShape",
                [] {
                  return safetensors(entry(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,16])"), kSixteen);
                },
                "w [2,2] in the file, [4] in the model"}),
    [](const auto& p) { return p.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Pth, HostileWeights,
    testing::Values(
        Hostile{"NoDirectory", [] { return "PK\3\4"s + std::string(60, '\0'); }, "directory is missing"},
        Hostile{"DirectoryElsewhere", [] { return zip({{.name = "a/data.pkl", .data = "x"}}, 0x7fffffff); },
                "cut off"},
        Hostile{"Zip64", [] { return zip({{.name = "a/data.pkl", .data = "x"}}, 0xffffffff); }, "Zip64"},
        Hostile{"Encrypted", [] { return zip({{.name = "a/data.pkl", .data = "x", .flags = 1}}); },
                "encrypted"},
        Hostile{"TwoPickles",
                [] {
                  return zip({{.name = "a/data.pkl", .data = "x"}, {.name = "a/data.pkl", .data = "y"}});
                },
                "twice"},
        Hostile{"OddMethod", [] { return zip({{.name = "a/data.pkl", .data = "x", .method = 12}}); },
                "method 12"},
        Hostile{"StoredButLonger", [] { return zip({{.name = "a/data.pkl", .data = "x", .claimed = 1000}}); },
                "method 0"},
        Hostile{
            "DamagedDeflate",
            [] { return zip({{.name = "a/data.pkl", .data = "\xff\xff\xff", .claimed = 100, .method = 8}}); },
            "does not unpack"},
        Hostile{"BombInTheStorage",
                [] {
                  return zip({{.name = "a/data.pkl",
                               .data = state_dict(text("w") + tensor(storage("0", 4), 0, one(4), one(1)))},
                              {.name = "a/data/0", .data = std::string(100 << 20, '\0'), .packed = true}});
                },
                "which no weights do"},
        Hostile{
            "BombInThePickle",
            [] { return zip({{.name = "a/data.pkl", .data = std::string(50 << 20, 'N'), .packed = true}}); },
            "too large for a state dict"},
        Hostile{"NoPickle", [] { return zip({{.name = "../../etc/passwd", .data = "x"}}); }, "no data.pkl"},
        Hostile{"KeyOutsideTheArchive",
                [] {
                  return pth(
                      state_dict(text("w") + tensor(storage("../../../etc/passwd", 4), 0, one(4), one(1))));
                },
                "passwd' is missing"},
        Hostile{"StorageShorterThanItSays",
                [] { return pth(state_dict(text("w") + tensor(storage("0", 1000), 0, one(4), one(1)))); },
                "shorter than its tensors"},
        Hostile{"BeyondTheStorage",
                [] { return pth(state_dict(text("w") + tensor(storage("0", 4), 1, one(4), one(1)))); },
                "reaches beyond"},
        Hostile{"StrideOverflows",
                [] {
                  return pth(
                      state_dict(text("w") + tensor(storage("0", 4), 0, one(4), one(0x5555555555555556))));
                },
                "reaches beyond"},
        Hostile{"HugeByRepetition",
                [] {
                  return pth(state_dict(text("w") +
                                        tensor(storage("0", 4), 0, one(std::uint64_t{1} << 40), one(0))));
                },
                "reaches beyond"},
        Hostile{"NegativeSize",
                [] {
                  return pth(
                      state_dict(text("w") + tensor(storage("0", 4), 0, one(~std::uint64_t{0}), one(1))));
                },
                "damaged"},
        Hostile{"ManyAxes",
                [] {
                  std::string axes = "(";
                  for (int i = 0; i < 100'000; ++i) axes += "K\1";
                  return pth(state_dict(text("w") + tensor(storage("0", 4), 0, axes + "t", axes + "t")));
                },
                "damaged"},
        Hostile{"LongKey", [] { return pth(state_dict(text("w") + storage(std::string(1 << 20, '0'), 4))); },
                "damaged"},
        Hostile{"CallsASystem",
                [] { return pth("\x80\x02" + global("posix", "system") + "(" + text("true") + "tR."); },
                "posix.system"},
        Hostile{"CallsABuiltin",
                [] { return pth("\x80\x02" + global("builtins", "eval") + "(" + text("1") + "tR."); },
                "builtins.eval"},
        Hostile{"CallsByStackGlobal",
                [] { return pth("\x80\x04" + text("os") + text("system") + "\x93(" + text("true") + "tR."); },
                "os.system"},
        Hostile{"LongGlobal", [] { return pth("\x80\x02" + global(std::string(1 << 20, 'm'), "x") + "."); },
                "mmm...'"},
        Hostile{"MakesAnObject",
                [] { return pth("\x80\x02" + global("collections", "OrderedDict") + ")\x81."); },
                "opcode 0x81"},
        Hostile{"NewStorageType",
                [] { return pth(state_dict(text("w") + storage("0", 4, "UntypedStorage"))); },
                "UntypedStorage"},
        Hostile{"NeverStops", [] { return pth("\x80\x02N"); }, "damaged"},
        Hostile{"PopsNothing",
                [] {
                  return pth(
                      "\x80\x02"
                      "00.");
                },
                "damaged"},
        Hostile{"TextBeyondTheEnd",
                [] {
                  return pth(
                      "\x80\x02X\xff\xff\xff\x7f"
                      "abc");
                },
                "damaged"},
        Hostile{"MemoOfNothing", [] { return pth("\x80\x02h\x05."); }, "damaged"},
        Hostile{"HoldsItself", [] { return pth("\x80\x02}q\0h\0h\0s."s); }, "no state dict"},
        Hostile{"NumbersForTensors", [] { return pth(state_dict(text("w") + "K\1")); }, "no state dict"},
        Hostile{"NameTwice",
                [] {
                  const std::string w = text("w") + tensor(storage("0", 4), 0, one(4), one(1));
                  return pth(state_dict(w + w));
                },
                "twice"}),
    [](const auto& p) { return p.param.name; });

TEST(HostileWeightsOracle, TheSameBuildersMakeFilesThatAreTaken) {
  const std::string file = temporary();
  const std::string data = le(0x3f800000, 4) + le(0x40000000, 4) + le(0x40400000, 4) + le(0x40800000, 4);
  const std::string pickle = state_dict(text("w") + tensor(storage("0", 4), 0, one(4), one(1)));
  for (const std::string& content : {safetensors(kFour, data), pth(pickle, data),
                                     zip({{.name = "a/data.pkl", .data = pickle, .packed = true},
                                          {.name = "a/data/0", .data = data, .packed = true}})}) {
    std::ofstream(file, std::ios::binary) << content;
    Vector4 module;
    io::load_weights(module, file);
    EXPECT_THAT(module.w.to_vector<float>(), testing::ElementsAre(1, 2, 3, 4));
  }
  fs::remove(file);
}

}  // namespace
}  // namespace cairn
