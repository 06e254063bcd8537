#pragma once
/// Plans that were chosen before: in memory (bounded) and, since asking cuDNN takes up to 0.6 s a graph, on
/// disk.
#include <filesystem>
#include <optional>
#include <string>

#include "kernels/cuda/cudnn_graph.h"
#include "kernels/lru_cache.h"

namespace cairn::kernels::cudnn {

/// Plans on disk, one small file each: FOLDER/cudnn-VERSION/DEVICE/GRAPH.plan, where DEVICE and GRAPH are
/// hashes of the device's description and of the graph. A file holds both in full, so that a collision is a
/// miss, and a checksum: a damaged file is ignored with a warning and written anew. Files are replaced in one
/// step; two processes may share a folder. Nothing here throws: a folder that cannot be used means no cache.
class PlanFiles {
 public:
  /// An empty folder: nothing is kept.
  explicit PlanFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}
  /// $CAIRN_CACHE, else $XDG_CACHE_HOME/cairn, else ~/.cache/cairn. CAIRN_CACHE=off: none.
  static PlanFiles of_user();

  struct Stored {
    EngineNotes notes;
    std::string plan_json;
  };
  std::optional<Stored> load(const ConvGraph& graph, const std::string& device_json) const;
  void store(const ConvGraph& graph, const std::string& device_json, const Stored& stored) const;
  std::filesystem::path file_of(const ConvGraph& graph, const std::string& device_json) const;

 private:
  std::filesystem::path folder_;
};

/// A plan, or why there is none.
struct MaybePlan {
  std::optional<Plan> plan;
  std::string why;
};

/// The plans of one device.
class PlanCache {
 public:
  PlanCache(DeviceDescription device, PlanFiles files)
      : device_(std::move(device)), files_(std::move(files)), plans_(kCapacity) {}

  /// From memory, else from disk, else chosen now and kept. Where cuDNN supports none, that is kept in memory
  /// too. Throws CudnnError for anything else that cuDNN finds wrong.
  std::shared_ptr<const MaybePlan> get(const ConvGraph& graph);
  CacheCounts counts() const { return plans_.counts(); }

 private:
  MaybePlan make(const ConvGraph& graph) const;

  // ResNet-18 has 31 graphs a batch size and dtype: room for several of each.
  static constexpr std::size_t kCapacity = 512;
  DeviceDescription device_;
  PlanFiles files_;
  LruCache<ConvGraph, MaybePlan> plans_;
};

}  // namespace cairn::kernels::cudnn
