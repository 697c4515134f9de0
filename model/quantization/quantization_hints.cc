#include "model/quantization/quantization_hints.h"

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/quantization/lenient_json.h"
#include "model/quantization/rotations.h"

namespace sheaf {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxGroupSize = 1 << 20;
constexpr int kMaxBits = 64;
constexpr int kPlainBits = 16;  // auto-round says so of what it leaves alone
constexpr std::string_view kRoot = "quantization_config";

// Layouts of other kernels, by the names that writers give them.
constexpr std::string_view kOtherLayouts[] = {"marlin", "marlin-24", "bitblas", "qqq",
                                              "gemv",   "gemv_fast", "llm-awq"};

bool IsRegex(const std::string& key) {
  return key.find_first_of("*+?^$()[]{}|\\") != std::string::npos;
}

class Reader {
 public:
  Reader(const Json& quantization, std::string_view source)
      : root_(quantization), source_(source) {}

  absl::StatusOr<QuantizationHints> Read() {
    hints_.method = Text({"quant_method", "method"});
    hints_.checkpoint_format = Text({"checkpoint_format", "format"});
    hints_.packing_format = Text({"packing_format"});
    SHEAF_RETURN_IF_ERROR(CheckLayout());
    SHEAF_RETURN_IF_ERROR(CheckNoOnlineRotation(root_, std::string(kRoot) + ".", source_));
    ModuleHints all;
    ReadModule(root_, std::string(kRoot), all);
    if (const Json* const desc_act = FindKey(root_, "desc_act")) {
      hints_.desc_act = LenientBool(*desc_act).value_or(false);
    }
    Number(root_, std::string(kRoot), "act_bits", 0, kMaxBits, hints_.activation_bits);
    ReadConfigGroups(all);
    ReadBlock();
    hints_.bits = all.bits;
    hints_.group_size = all.group_size;
    hints_.symmetric = all.symmetric;
    hints_.symmetric_source = all.symmetric_source;
    ReadDynamic();
    ReadExtraConfig();
    AddStrings("ignore");
    AddStrings("modules_to_not_convert");
    RemarkActivations();
    return std::move(hints_);
  }

 private:
  void Unreadable(const std::string& key, std::string_view wanted, const Json& got) {
    hints_.remarks.push_back(
        absl::StrFormat("%s: wanted %s, got %s; not used", key, wanted, ShortJson(got)));
  }

  std::string Text(std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
      const Json* const value = FindKey(root_, key);
      if (value == nullptr) continue;
      if (value->is_string()) return value->get<std::string>();
      Unreadable(absl::StrFormat("%s.%s", kRoot, key), "a string", *value);
    }
    return "";
  }

  void Number(const Json& object, const std::string& where, const char* key, int low, int high,
              int& out) {
    const Json* const value = FindKey(object, key);
    if (value == nullptr) return;
    const auto number = LenientInt(*value);
    if (number && *number >= low && *number <= high) {
      out = static_cast<int>(*number);
    } else {
      Unreadable(where + "." + key, absl::StrFormat("an integer in %d..%d", low, high), *value);
    }
  }

  void Symmetric(const Json& object, const std::string& where, const char* key, bool when_true,
                 ModuleHints& out) {
    const Json* const value = FindKey(object, key);
    if (value == nullptr) return;
    const auto flag = LenientBool(*value);
    if (!flag) return Unreadable(where + "." + key, "true or false", *value);
    out.symmetric = *flag == when_true;
    out.symmetric_source = absl::StrFormat("%s says %s %s", where, key, *flag ? "true" : "false");
  }

  // Whichever spelling the object has; what it does not say stays.
  void ReadModule(const Json& object, const std::string& where, ModuleHints& out) {
    for (const char* key : {"w_bit", "num_bits", "bits"})
      Number(object, where, key, 0, kMaxBits, out.bits);
    for (const char* key : {"q_group_size", "group_size"})
      Number(object, where, key, -1, kMaxGroupSize, out.group_size);
    Symmetric(object, where, "zero_point", false, out);
    Symmetric(object, where, "symmetric", true, out);
    Symmetric(object, where, "sym", true, out);
    const Json* const strategy = FindKey(object, "strategy");
    if (strategy != nullptr && *strategy == "channel") out.group_size = -1;
  }

  absl::Status CheckLayout() const {
    const auto refuse = [&](std::string_view key, std::string_view wanted, const Json& got) {
      return absl::UnimplementedError(absl::StrFormat("%s: %s.%s: wanted %s, got %s", source_,
                                                      kRoot, key, wanted, ShortJson(got)));
    };
    for (const char* key : {"checkpoint_format", "format", "version"}) {
      const Json* const value = FindKey(root_, key);
      if (value == nullptr || !value->is_string()) continue;
      auto name = value->get<std::string>();
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (std::find(std::begin(kOtherLayouts), std::end(kOtherLayouts), name) !=
          std::end(kOtherLayouts)) {
        return refuse(key, "a layout that is read (docs/weight_formats.md)", *value);
      }
    }
    const Json* const marlin = FindKey(root_, "is_marlin_format");
    if (marlin != nullptr && LenientBool(*marlin).value_or(true)) {
      return refuse("is_marlin_format", "false", *marlin);
    }
    const Json* const words = FindKey(root_, "pack_dtype");
    if (words != nullptr && *words != "int32" && *words != "torch.int32") {
      return refuse("pack_dtype", "int32", *words);
    }
    const Json* const sparsity = FindKey(root_, "sparsity_config");
    const Json* const sparse = sparsity == nullptr ? nullptr : FindKey(*sparsity, "format");
    if (sparse != nullptr && *sparse != "dense") {
      return refuse("sparsity_config.format", "dense", *sparse);
    }
    return absl::OkStatus();
  }

  // compressed-tensors. The first group stands for the whole in `all`, but for what its targets
  // alone are told.
  void ReadConfigGroups(ModuleHints& all) {
    const Json* const groups = FindKey(root_, "config_groups");
    if (groups == nullptr) return;
    if (!groups->is_object())
      return Unreadable(absl::StrFormat("%s.config_groups", kRoot), "an object", *groups);
    bool first = true;
    for (const auto& [name, group] : groups->items()) {
      const std::string where = absl::StrFormat("%s.config_groups.%s", kRoot, name.substr(0, 60));
      ModuleHints of_group;
      const Json* targets = FindKey(group, "targets");
      if (group.is_array()) {
        targets = &group;
        ReadPreset(name, where, of_group);
      } else if (const Json* const weights = FindKey(group, "weights");
                 weights != nullptr && weights->is_object()) {
        ReadModule(*weights, where, of_group);
        const Json* const order = FindKey(*weights, "actorder");
        if (first && order != nullptr) hints_.desc_act = *order == "group";
      } else {
        continue;  // activations alone
      }
      if (const Json* const activations = FindKey(group, "input_activations");
          activations != nullptr && activations->is_object()) {
        Number(*activations, where + ".input_activations", "num_bits", 0, kMaxBits,
               hints_.activation_bits);
      }
      if (std::exchange(first, false)) {
        all.bits = of_group.bits;
        all.group_size = of_group.group_size;
        if (targets == nullptr) all = of_group;
      }
      if (targets != nullptr) AddTargets(*targets, of_group);
    }
  }

  // Schemes that compressed-tensors knows by name.
  static void ReadPreset(const std::string& name, const std::string& where, ModuleHints& out) {
    if (name != "W4A16" && name != "W4A16_ASYM" && name != "W8A16") return;
    out.bits = name[1] - '0';
    out.group_size = out.bits == 4 ? 128 : -1;
    out.symmetric = name != "W4A16_ASYM";
    out.symmetric_source = where + " says " + (*out.symmetric ? "symmetric" : "asymmetric");
  }

  // [128, 128]
  void ReadBlock() {
    const Json* const block = FindKey(root_, "weight_block_size");
    if (block == nullptr) return;
    const bool is_pair = block->is_array() && block->size() == 2;
    const auto side = [&](size_t i) { return is_pair ? LenientInt((*block)[i]) : std::nullopt; };
    const auto rows = side(0), columns = side(1);
    const auto fits = [](const auto& number) {
      return number && *number >= 1 && *number <= kMaxGroupSize;
    };
    if (!fits(rows) || !fits(columns)) {
      return Unreadable(absl::StrFormat("%s.weight_block_size", kRoot), "two sides", *block);
    }
    hints_.block_rows = static_cast<int>(*rows);
    hints_.block_columns = static_cast<int>(*columns);
  }

  void AddTargets(const Json& targets, const ModuleHints& hints) {
    const Json list = targets.is_array() ? targets : Json::array({targets});
    for (const Json& target : list) {
      if (!target.is_string()) continue;
      const auto& text = target.get_ref<const std::string&>();
      if (text.rfind("re:", 0) == 0) {
        AddExpression(text.substr(3), ModuleOverrides::Anchor::kStart, hints);
      } else if (text.find('.') == std::string::npos && text.find("Linear") != std::string::npos) {
        hints_.overrides.AddRest(hints);
      } else {
        hints_.overrides.AddName(text, hints);
      }
    }
  }

  void AddExpression(const std::string& expression, ModuleOverrides::Anchor anchor,
                     const ModuleHints& hints) {
    const absl::Status added = hints_.overrides.AddExpression(expression, anchor, hints);
    if (added.ok()) return;
    hints_.remarks.push_back(
        absl::StrFormat("%s: the expression \"%s\" cannot be read and names no "
                        "module: %s",
                        kRoot, expression.substr(0, 60), std::string(added.message())));
  }

  // GPTQModel: "-:REGEX" = left alone, "+:REGEX" or "REGEX" = other settings; the first match
  // holds.
  void ReadDynamic() {
    const Json* const dynamic = FindKey(root_, "dynamic");
    if (dynamic == nullptr || !dynamic->is_object()) return;
    // Those before the last override can keep a module from it.
    std::vector<std::pair<std::string, ModuleHints>> entries;
    size_t used = 0;
    for (const auto& [pattern, overrides] : dynamic->items()) {
      const bool leaves_alone = pattern.rfind("-:", 0) == 0;
      const std::string expression =
          leaves_alone || pattern.rfind("+:", 0) == 0 ? pattern.substr(2) : pattern;
      ModuleHints hints;
      if (leaves_alone) {
        hints_.unquantized.push_back("re:" + expression);
      } else {
        ReadModule(overrides,
                   absl::StrFormat("%s.dynamic \"%s\"", kRoot, pattern.substr(0, 60)), hints);
      }
      entries.emplace_back(expression, std::move(hints));
      if (!leaves_alone) used = entries.size();
    }
    for (size_t i = 0; i < used; ++i) {
      AddExpression(entries[i].first, ModuleOverrides::Anchor::kStart, entries[i].second);
    }
  }

  // auto-round: names, ends of names, and expressions.
  void ReadExtraConfig() {
    const Json* const extra = FindKey(root_, "extra_config");
    if (extra == nullptr || !extra->is_object()) return;
    for (const auto& [name, overrides] : extra->items()) {
      ModuleHints hints;
      ReadModule(overrides, absl::StrFormat("%s.extra_config \"%s\"", kRoot, name.substr(0, 60)),
                 hints);
      const bool is_regex = IsRegex(name);
      if (hints.bits >= kPlainBits) {
        hints_.unquantized.push_back(is_regex ? "search:" + name : name);
        hints = {};
      }
      if (is_regex) {
        AddExpression(name, ModuleOverrides::Anchor::kAnywhere, hints);
      } else {
        hints_.overrides.AddName(name, hints);
      }
    }
  }

  void AddStrings(const char* key) {
    const Json* const list = FindKey(root_, key);
    if (list == nullptr || !list->is_array()) return;
    for (const Json& entry : *list) {
      if (entry.is_string()) hints_.unquantized.push_back(entry.get<std::string>());
    }
  }

  // Scales of activations that were measured beforehand: here activations are not quantized so.
  void RemarkActivations() {
    const auto remark = [&](const std::string& key) {
      hints_.remarks.push_back(
          absl::StrFormat("%s.%s: activations are not quantized as it says", kRoot, key));
    };
    const auto is_static = [](const Json& scheme) {
      const Json* const dynamic = FindKey(scheme, "dynamic");
      return dynamic == nullptr || *dynamic == false;
    };
    if (const Json* const groups = FindKey(root_, "config_groups");
        groups != nullptr && groups->is_object()) {
      for (const auto& [name, group] : groups->items()) {
        for (const char* key : {"input_activations", "output_activations"}) {
          const Json* const scheme = FindKey(group, key);
          if (scheme != nullptr && is_static(*scheme))
            remark(absl::StrFormat("config_groups.%s.%s", name.substr(0, 60), key));
        }
      }
    }
    if (FindKey(root_, "kv_cache_scheme") != nullptr) {
      hints_.remarks.push_back(absl::StrFormat(
          "%s.kv_cache_scheme: the format of the cache is that of --kv-cache-dtype", kRoot));
    }
    const Json* const adapter = FindKey(root_, "adapter");
    if (adapter != nullptr && !adapter->empty()) {
      hints_.remarks.push_back(
          absl::StrFormat("%s.adapter: adapters are not applied", kRoot));
    }
  }

  const Json& root_;
  const std::string source_;
  QuantizationHints hints_;
};

}  // namespace

ModuleHints QuantizationHints::Of(std::string_view module) const {
  ModuleHints all{bits, group_size, symmetric, symmetric_source};
  const ModuleHints* const own = overrides.Find(module);
  if (own == nullptr) return all;
  if (own->bits != 0) all.bits = own->bits;
  if (own->group_size != 0) all.group_size = own->group_size;
  if (own->symmetric) {
    all.symmetric = own->symmetric;
    all.symmetric_source = own->symmetric_source;
  }
  return all;
}

absl::StatusOr<QuantizationHints> ReadQuantizationHints(const Json& quantization,
                                                        std::string_view source) {
  return Reader(quantization, source).Read();
}

}  // namespace sheaf
