#include "model/repack/repack.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/attention/attention_tensors.h"
#include "model/files/weight_files.h"
#include "model/model_layout.h"
#include "model/quantization/zero_points.h"
#include "model/repack/quantization_config.h"
#include "model/repack/safetensors_writer.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr char kIndexName[] = "model.safetensors.index.json";
// What the old format says of itself; config.json's object is replaced instead.
constexpr std::string_view kOldDescriptions[] = {"quantize_config.json", "quantization_config.json",
                                                 "quant_log.csv"};

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// Removes the directory unless it was kept.
class PartialDirectory {
 public:
  explicit PartialDirectory(fs::path path) : path_(std::move(path)) {}
  ~PartialDirectory() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  absl::Status RenameTo(const fs::path& to) {
    std::error_code error;
    fs::rename(path_, to, error);
    if (error) {
      return absl::InternalError(absl::StrFormat("%s: %s", to.string(), error.message()));
    }
    path_.clear();
    return absl::OkStatus();
  }

 private:
  fs::path path_;
};

absl::StatusOr<Json> ReadJson(const fs::path& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrFormat("%s: cannot open", path.string()));
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: not a JSON object", path.string()));
  }
  return json;
}

absl::Status WriteJson(const fs::path& path, const Json& json) {
  const std::string text = json.dump(2) + "\n";
  return WriteWholeFile(path.string(),
                        {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// The model's Linears by name: beside n and k, the shape of words shows their bits.
using NamedShapes = std::map<std::string, NamedLinear>;

NamedShapes ShapesOf(const ModelConfig& config) {
  NamedShapes shapes;
  const auto add = [&](const NamedLinear& linear) { shapes.emplace(linear.prefix, linear); };
  const auto add_mlp = [&](const std::string& prefix, int width, ModelPart part) {
    for (const NamedLinear& linear : MlpLinears(prefix, config.hidden_size, width, part))
      add(linear);
  };
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const NamedLinear& linear : AttentionLinears(config, layer)) add(linear);
    const std::string mlp = LayerPrefix(layer) + ".mlp";
    if (!config.is_moe_layer(layer)) {
      add_mlp(mlp, config.intermediate_size, ModelPart::kDenseMlp);
      continue;
    }
    add_mlp(mlp + ".shared_experts", config.shared_intermediate_size(), ModelPart::kSharedExperts);
    for (int expert = 0; expert < config.num_experts; ++expert)
      add_mlp(ExpertPrefix(layer, expert), config.moe_intermediate_size, ModelPart::kRoutedExperts);
  }
  add(LmHead(config));
  return shapes;
}

absl::Status RefuseEightBits(const TensorInfo& codes) {
  return absl::UnimplementedError(absl::StrFormat(
      "%s: tensor %s: 8-bit weights, which are served as they are: only 4-bit ones are repacked",
      codes.file, codes.name));
}

// A 4-bit Linear whose words are this tensor.
absl::StatusOr<LinearPlan> PlanOf(const Checkpoint& checkpoint, const QuantizationHints& hints,
                                  const NamedShapes& shapes, const TensorInfo& codes) {
  const size_t dot = codes.name.rfind('.');
  const std::string prefix = codes.name.substr(0, dot);
  if (const auto known = shapes.find(prefix); known != shapes.end()) {
    const int64_t n = known->second.n, k = known->second.k;
    if (codes.shape == std::vector<int64_t>{k / 4, n} ||
        codes.shape == std::vector<int64_t>{n, (k + 3) / 4}) {
      return RefuseEightBits(codes);
    }
  }
  if (codes.shape.size() != 2) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: tensor %s: wanted 2 dimensions, got %s",
                                                      codes.file, codes.name,
                                                      ShapeString(codes.shape)));
  }
  int64_t n = codes.shape[1], k = codes.shape[0] * 8;  // gptq
  if (EndsWith(codes.name, ".weight_packed")) {
    n = codes.shape[0];
    k = codes.shape[1] * 8;
    const TensorInfo* shape = checkpoint.Find(prefix + ".weight_shape");
    if (shape != nullptr && shape->dtype == TensorDtype::kI64 && shape->bytes == 16) {
      int64_t file_shape[2];
      SHEAF_RETURN_IF_ERROR(checkpoint.Read(
          *shape, 0, {reinterpret_cast<uint8_t*>(file_shape), sizeof(file_shape)}));
      k = file_shape[1];
    }
  } else if (hints.method == "awq" || hints.packing_format == "auto_round:auto_awq") {
    n = codes.shape[1] * 8;
    k = codes.shape[0];
  }
  constexpr int64_t kMaxSide = 1 << 24;
  if (n < 1 || k < 1 || n > kMaxSide || k > kMaxSide || k % 8 != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor %s: %d outputs of %d inputs: wanted a multiple of 8 inputs",
                        codes.file, codes.name, n, k));
  }
  SHEAF_ASSIGN_OR_RETURN(
      LinearPlan plan,
      PlanLinear(checkpoint, hints, prefix, static_cast<int>(n), static_cast<int>(k)));
  if (plan.bits == 8) return RefuseEightBits(codes);
  return plan;
}

// The group size that the whole checkpoint can be said to have; -1 = a group is a row.
absl::StatusOr<int> CommonGroupSize(const std::map<std::string, LinearPlan>& linears) {
  const LinearPlan* grouped = nullptr;
  for (const auto& [name, plan] : linears) {
    if (plan.groups < 2) continue;
    if (grouped == nullptr) grouped = &plan;
    if (plan.group_size != grouped->group_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: groups of %d inputs, but %s has groups of %d: no format says both",
                          plan.prefix, plan.group_size, grouped->prefix, grouped->group_size));
    }
  }
  const int size = grouped == nullptr ? -1 : grouped->group_size;
  for (const auto& [name, plan] : linears) {
    if (grouped == nullptr || plan.k <= size || plan.groups > 1) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: one group of %d inputs, but %s has groups of %d: no format says both",
                        plan.prefix, plan.k, grouped->prefix, size));
  }
  return size;
}

struct Source {
  std::unique_ptr<Checkpoint> checkpoint;
  std::map<std::string, LinearPlan> linears;  // by the name of the words
  std::set<std::string> parts;                // names of all tensors that those replace
  QuantizationFacts facts;
};

absl::StatusOr<Source> ReadSource(const std::string& from) {
  Source source;
  SHEAF_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(from));
  SHEAF_ASSIGN_OR_RETURN(source.checkpoint, Checkpoint::Open(from));
  SHEAF_RETURN_IF_ERROR(JudgeAbsentTensors(*source.checkpoint, config).status());
  const NamedShapes shapes = ShapesOf(config);
  for (const TensorInfo* tensor : source.checkpoint->tensors()) {
    if (EndsWith(tensor->name, ".weight") && tensor->dtype == TensorDtype::kI8)
      return RefuseEightBits(*tensor);
    // A plain copy would be called unquantized in the new config, which readers believe.
    if (tensor->dtype == TensorDtype::kF8E4M3 || tensor->dtype == TensorDtype::kF8E5M2) {
      return absl::UnimplementedError(absl::StrFormat(
          "%s: tensor %s: wanted 4-bit Linears beside plain ones, got FP8: the formats that are "
          "written cannot say so",
          tensor->file, tensor->name));
    }
    if (!EndsWith(tensor->name, ".qweight") && !EndsWith(tensor->name, ".weight_packed")) continue;
    SHEAF_ASSIGN_OR_RETURN(LinearPlan plan,
                           PlanOf(*source.checkpoint, config.quantization, shapes, *tensor));
    if (plan.zeros != nullptr) {
      SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> zeros,
                             source.checkpoint->ReadAll(*plan.zeros));
      SHEAF_ASSIGN_OR_RETURN(plan.zero_points, DecideZeroPoints(plan, zeros));
    }
    if (plan.zero_points != ZeroPoints::kSymmetric) source.facts.symmetric = false;
    for (const TensorInfo* part : {plan.codes, plan.scales, plan.zeros, plan.g_idx, plan.shape}) {
      if (part != nullptr) source.parts.insert(part->name);
    }
    source.linears.emplace(tensor->name, std::move(plan));
  }
  if (source.linears.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: no 4-bit Linear in it: nothing to repack", from));
  }
  SHEAF_ASSIGN_OR_RETURN(source.facts.group_size, CommonGroupSize(source.linears));
  for (const TensorInfo* tensor : source.checkpoint->tensors()) {
    const bool is_matrix = EndsWith(tensor->name, ".weight") && tensor->shape.size() == 2;
    if (!is_matrix || tensor->name == kEmbeddingName) continue;
    source.facts.unquantized.push_back(tensor->name.substr(0, tensor->name.rfind('.')));
  }
  return source;
}

absl::Status WriteShard(const Source& source, int shard, RepackFormat format, const fs::path& to,
                        const std::string& name, Json& weight_map, RepackSummary& summary,
                        QuantizationFacts& facts) {
  std::vector<std::vector<NewTensor>> owned;
  std::vector<SafetensorsPiece> pieces;
  for (const TensorInfo& tensor : source.checkpoint->shard_tensors(static_cast<size_t>(shard))) {
    const auto linear = source.linears.find(tensor.name);
    if (linear != source.linears.end()) {
      SHEAF_ASSIGN_OR_RETURN(const FileLinear read,
                             ReadFileLinear(*source.checkpoint, linear->second));
      facts.desc_act |= !read.g_idx.empty();
      SHEAF_ASSIGN_OR_RETURN(std::vector<NewTensor> written,
                             WriteFileLinear(read, format, facts.symmetric));
      owned.push_back(std::move(written));
      for (const NewTensor& part : owned.back()) {
        pieces.push_back({part.name, part.dtype, part.shape, part.bytes, nullptr, 0});
      }
      ++summary.quantized_linears;
    } else if (!source.parts.contains(tensor.name)) {
      pieces.push_back({tensor.name,
                        tensor.dtype,
                        tensor.shape,
                        {},
                        [&](uint64_t first, std::span<uint8_t> out) {
                          return source.checkpoint->Read(tensor, first, out);
                        },
                        tensor.bytes});
      ++summary.copied_tensors;
    }
  }
  for (const SafetensorsPiece& piece : pieces) {
    weight_map[piece.name] = name;
    summary.bytes += piece.size_bytes();
  }
  return WriteSafetensors((to / name).string(), pieces);
}

absl::Status CopyOtherFiles(const fs::path& from, const fs::path& to) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(from, error)) {
    const std::string name = entry.path().filename().string();
    const bool is_old = std::find(std::begin(kOldDescriptions), std::end(kOldDescriptions), name) !=
                        std::end(kOldDescriptions);
    if (!entry.is_regular_file() || is_old || name == "config.json" ||
        EndsWith(name, kIndexSuffix) || EndsWith(name, ".safetensors")) {
      continue;
    }
    fs::copy_file(entry.path(), to / name, error);
    if (error) break;
  }
  if (!error) return absl::OkStatus();
  const bool full = error == std::errc::no_space_on_device;
  return absl::Status(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
                      absl::StrFormat("copying files from %s: %s", from.string(), error.message()));
}

}  // namespace

absl::StatusOr<RepackSummary> RepackCheckpoint(const std::string& from, const std::string& to,
                                               RepackFormat format) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(to, error))) {
    return absl::AlreadyExistsError(absl::StrFormat("%s: exists already", to));
  }
  SHEAF_ASSIGN_OR_RETURN(const Source source, ReadSource(from));
  SHEAF_ASSIGN_OR_RETURN(Json config, ReadJson(fs::path(from) / "config.json"));

  std::string pattern =
      (fs::path(to).lexically_normal() / "").parent_path().string() + ".partial-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) {
    return absl::InternalError(absl::StrFormat("%s: %s", pattern, std::strerror(errno)));
  }
  PartialDirectory partial(pattern);
  fs::permissions(partial.path(), fs::perms(0755), error);

  RepackSummary summary;
  QuantizationFacts facts = source.facts;
  Json weight_map = Json::object();
  const int num_shards = static_cast<int>(source.checkpoint->num_shards());
  for (int shard = 0; shard < num_shards; ++shard) {
    const std::string name =
        num_shards == 1 ? std::string("model.safetensors")
                        : absl::StrFormat("model-%05d-of-%05d.safetensors", shard + 1, num_shards);
    SHEAF_RETURN_IF_ERROR(
        WriteShard(source, shard, format, partial.path(), name, weight_map, summary, facts));
  }
  SHEAF_RETURN_IF_ERROR(source.checkpoint->CheckUnchanged());
  if (num_shards > 1) {
    const Json index = {{"metadata", {{"total_size", summary.bytes}}}, {"weight_map", weight_map}};
    SHEAF_RETURN_IF_ERROR(WriteJson(partial.path() / kIndexName, index));
  }
  config["quantization_config"] = QuantizationConfig(facts, format);
  SHEAF_RETURN_IF_ERROR(WriteJson(partial.path() / "config.json", config));
  SHEAF_RETURN_IF_ERROR(CopyOtherFiles(from, partial.path()));
  SHEAF_RETURN_IF_ERROR(partial.RenameTo(to));
  return summary;
}

}  // namespace sheaf
