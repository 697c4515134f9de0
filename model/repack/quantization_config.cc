#include "model/repack/quantization_config.h"

namespace sheaf {
namespace {

using Json = nlohmann::ordered_json;

// A name as a regular expression that matches it alone.
std::string Exactly(const std::string& name) {
  std::string pattern = "^";
  for (const char c : name) {
    if (c == '.') pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
}

Json GptqConfig(const QuantizationFacts& facts, const char* checkpoint_format) {
  Json config = {{"bits", 4},
                 {"group_size", facts.group_size},
                 {"desc_act", facts.desc_act},
                 {"sym", facts.symmetric},
                 {"lm_head", false},
                 {"quant_method", "gptq"},
                 {"checkpoint_format", checkpoint_format},
                 {"format", checkpoint_format},
                 {"pack_dtype", "int32"}};
  Json dynamic = Json::object();
  for (const std::string& name : facts.unquantized) dynamic["-:" + Exactly(name)] = Json::object();
  if (!dynamic.empty()) config["dynamic"] = dynamic;
  return config;
}

Json AutoRoundConfig(const QuantizationFacts& facts) {
  Json config = {{"bits", 4},
                 {"group_size", facts.group_size},
                 {"sym", facts.symmetric},
                 {"data_type", "int"},
                 {"quant_method", "auto-round"},
                 {"packing_format", "auto_round:auto_gptq"},
                 {"block_name_to_quantize", "model.layers"}};
  Json extra = Json::object();
  for (const std::string& name : facts.unquantized) {
    extra[name] = {{"bits", 16}, {"data_type", "fp"}};
  }
  if (!extra.empty()) config["extra_config"] = extra;
  return config;
}

Json CompressedTensorsConfig(const QuantizationFacts& facts) {
  Json weights = {{"num_bits", 4},
                  {"type", "int"},
                  {"symmetric", facts.symmetric},
                  {"strategy", facts.group_size == -1 ? "channel" : "group"},
                  {"group_size", facts.group_size},
                  {"dynamic", false},
                  {"actorder", facts.desc_act ? Json("group") : Json(nullptr)}};
  Json group = {{"targets", {"Linear"}},
                {"weights", weights},
                {"input_activations", nullptr},
                {"output_activations", nullptr},
                {"format", "pack-quantized"}};
  return {{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"},
          {"quantization_status", "compressed"},  {"config_groups", {{"group_0", group}}},
          {"ignore", facts.unquantized},          {"kv_cache_scheme", nullptr}};
}

}  // namespace

Json QuantizationConfig(const QuantizationFacts& facts, RepackFormat format) {
  switch (format) {
    case RepackFormat::kGptq:
      return GptqConfig(facts, "gptq");
    case RepackFormat::kGptqV2:
      return GptqConfig(facts, "gptq_v2");
    case RepackFormat::kAutoRound:
      return AutoRoundConfig(facts);
    case RepackFormat::kCompressedTensors:
      break;
  }
  return CompressedTensorsConfig(facts);
}

}  // namespace sheaf
