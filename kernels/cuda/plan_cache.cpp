#include "kernels/cuda/plan_cache.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

#include "kernels/user_cache.h"

namespace cairn::kernels::cudnn {
namespace {

// The file: this line, then the record's checksum, then the record: graph, notes, device's and plan's JSON,
// each with its length before it.
constexpr std::string_view kMagic = "cairn cuDNN plan 1\n";
constexpr std::size_t kMostBytes = 1 << 20;  // a plan's JSON has about 2 KB

/// FNV-1a, 64 bits: finds damage and names files; collisions are found by comparing what was hashed.
std::uint64_t hash_of(std::string_view bytes) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

template <class T>
std::string_view bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

/// EngineNotes without padding.
struct NotesOnDisk {
  std::int64_t engine;
  std::uint8_t flags[8];
};
NotesOnDisk pack(const EngineNotes& n) {
  return {n.engine,
          {n.tensor_core, n.deterministic, n.reduced_precision, n.runtime_compiled, n.large_winograd}};
}
EngineNotes unpack(const NotesOnDisk& d) {
  return {d.engine, d.flags[0] != 0, d.flags[1] != 0, d.flags[2] != 0, d.flags[3] != 0, d.flags[4] != 0};
}

void append(std::string& record, std::string_view field) {
  const std::uint64_t length = field.size();
  record.append(bytes_of(length)).append(field);
}

/// Takes the next field off `rest`; false where it does not fit.
bool take(std::string_view& rest, std::string_view& field) {
  std::uint64_t length = 0;
  if (rest.size() < sizeof length) return false;
  std::memcpy(&length, rest.data(), sizeof length);
  rest.remove_prefix(sizeof length);
  if (length > rest.size()) return false;
  field = rest.substr(0, static_cast<std::size_t>(length));
  rest.remove_prefix(static_cast<std::size_t>(length));
  return true;
}

void warn_damaged(const std::filesystem::path& file) {
  std::fprintf(stderr, "warning: the cached cuDNN plan %s is damaged: it is ignored and written anew\n",
               file.c_str());
}

}  // namespace

PlanFiles PlanFiles::of_user() { return PlanFiles(user_cache_folder()); }

std::filesystem::path PlanFiles::file_of(const ConvGraph& graph, const std::string& device_json) const {
  return folder_ / ("cudnn-" + std::to_string(cudnnGetVersion())) / hex(hash_of(device_json)) /
         (hex(hash_of(bytes_of(graph))) + ".plan");
}

std::optional<PlanFiles::Stored> PlanFiles::load(const ConvGraph& graph,
                                                 const std::string& device_json) const {
  if (folder_.empty()) return std::nullopt;
  const std::filesystem::path path = file_of(graph, device_json);
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string text(kMostBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));

  std::string_view rest = text;
  const auto damaged = [&] {
    warn_damaged(path);
    return std::nullopt;
  };
  std::uint64_t checksum = 0;
  if (rest.size() < kMagic.size() + sizeof checksum || !rest.starts_with(kMagic)) return damaged();
  rest.remove_prefix(kMagic.size());
  std::memcpy(&checksum, rest.data(), sizeof checksum);
  rest.remove_prefix(sizeof checksum);
  if (hash_of(rest) != checksum) return damaged();
  std::array<std::string_view, 4> fields;
  for (std::string_view& field : fields)
    if (!take(rest, field)) return damaged();
  NotesOnDisk notes{};
  if (!rest.empty() || fields[1].size() != sizeof notes) return damaged();
  if (fields[0] != bytes_of(graph) || fields[2] != device_json) return std::nullopt;  // hashes collided
  std::memcpy(&notes, fields[1].data(), sizeof notes);
  return Stored{unpack(notes), std::string(fields[3])};
}

void PlanFiles::store(const ConvGraph& graph, const std::string& device_json, const Stored& stored) const {
  if (folder_.empty()) return;
  std::string record;
  append(record, bytes_of(graph));
  append(record, bytes_of(pack(stored.notes)));
  append(record, device_json);
  append(record, stored.plan_json);
  const std::uint64_t checksum = hash_of(record);

  const std::filesystem::path path = file_of(graph, device_json);
  static std::atomic<unsigned> serial = 0;
  std::filesystem::path temporary = path;
  temporary += "." + std::to_string(getpid()) + "." + std::to_string(serial++) + ".tmp";
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  {
    std::ofstream out(temporary, std::ios::binary);
    out << kMagic << bytes_of(checksum) << record;
    out.close();
    if (!out) {
      std::filesystem::remove(temporary, error);
      return;
    }
  }
  std::filesystem::rename(temporary, path, error);
  if (error) std::filesystem::remove(temporary, error);
}

std::shared_ptr<const MaybePlan> PlanCache::get(const ConvGraph& graph) {
  return plans_.get(graph, [&] { return make(graph); });
}

MaybePlan PlanCache::make(const ConvGraph& graph) const {
  if (const auto stored = files_.load(graph, device_.json())) {
    try {
      return {load_plan(stored->plan_json, stored->notes, device_), {}};
    } catch (const CudnnError&) {
      warn_damaged(files_.file_of(graph, device_.json()));
    }
  }
  try {
    Plan plan = choose_plan(graph, device_, workspace_limit(graph));
    files_.store(graph, device_.json(), {plan.notes, plan.json});
    return {std::move(plan), {}};
  } catch (const CudnnError& e) {
    // What cuDNN does not support has plain kernels. A graph that it calls wrong is a mistake of ours, which
    // they would hide.
    if (CUDNN_STATUS_CATEGORY(e.status) != CUDNN_STATUS_NOT_SUPPORTED) throw;
    return {std::nullopt, e.what()};
  }
}

}  // namespace cairn::kernels::cudnn
