// Text and JSON of an InspectReport.

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "model/inspect/inspect.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

std::string SizeText(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 999.95 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? absl::StrFormat("%d B", bytes)
                   : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string GroupText(const TensorGroup& group) {
  if (group.block_rows != 0) {
    if (group.group_size < 0) return group.block_rows == 1 ? "row" : "tensor";
    return absl::StrFormat("%dx%d", group.block_rows, group.group_size);
  }
  return group.group_size == 0
             ? "-"
             : absl::StrFormat("%d%s", group.group_size, group.symmetric ? "" : " asym");
}

}  // namespace

std::vector<std::string> AllRemarks(const InspectReport& report) {
  std::vector<std::string> all = report.disagreements;
  all.insert(all.end(), report.remarks.begin(), report.remarks.end());
  return all;
}

std::string InspectText(const InspectReport& report) {
  std::string out = report.directory + "\n";
  if (report.tensors > 0) {
    out += absl::StrFormat("%s: %d layers, %d experts a layer, %d tensors in %d file%s, %s\n",
                           report.model_type.empty() ? "unknown model" : report.model_type,
                           report.layers, report.experts, report.tensors, report.shards,
                           report.shards == 1 ? "" : "s", SizeText(report.bytes));
  }
  if (!report.groups.empty()) {
    out += absl::StrFormat("\n%-16s %-15s %4s %9s %8s %8s %10s\n", "part", "format", "bits",
                           "group", "modules", "tensors", "size");
    for (const TensorGroup& group : report.groups) {
      out += absl::StrFormat("%-16s %-15s %4d %9s %8d %8d %10s\n", ModelPartName(group.part),
                             group.format, group.bits, GroupText(group), group.modules,
                             group.tensors, SizeText(group.bytes));
    }
  }
  if (!report.disagreements.empty()) {
    out += "\nThe tensors count where the config says otherwise:\n";
    for (const std::string& line : report.disagreements) out += "  " + OneLine(line) + "\n";
  }
  if (!report.remarks.empty()) {
    out += "\nRemarks:\n";
    for (const std::string& line : report.remarks) out += "  " + OneLine(line) + "\n";
  }
  if (!report.processes.empty()) {
    out += "\nWeights a process:\n";
    for (const ProcessShare& share : report.processes) {
      const std::string experts =
          share.num_experts == 0
              ? std::string("no routed experts")
              : absl::StrFormat("experts %d..%d of every MoE layer", share.first_expert,
                                share.first_expert + share.num_experts - 1);
      out += absl::StrFormat("  %-10s %10s  %s\n", share.process, SizeText(share.bytes), experts);
      if (share.absorbed_bytes > 0) {
        out += absl::StrFormat("  %-10s %10s  kv_b_proj, taken apart for absorption\n", "",
                               "+ " + SizeText(share.absorbed_bytes));
      }
    }
  }
  out += report.refusal.empty() ? "\nIt can be served.\n"
                                : "\nIt cannot be served: " + OneLine(report.refusal) + "\n";
  return out;
}

std::string InspectJson(const InspectReport& report) {
  using Json = nlohmann::ordered_json;
  Json json = {{"directory", report.directory}, {"model_type", report.model_type},
               {"layers", report.layers},       {"experts", report.experts},
               {"shards", report.shards},       {"tensors", report.tensors},
               {"bytes", report.bytes}};
  json["groups"] = Json::array();
  for (const TensorGroup& group : report.groups) {
    json["groups"].push_back(Json{{"part", std::string(ModelPartName(group.part))},
                                  {"format", group.format},
                                  {"bits", group.bits},
                                  {"group_size", group.group_size},
                                  {"block_rows", group.block_rows},
                                  {"symmetric", group.symmetric},
                                  {"modules", group.modules},
                                  {"tensors", group.tensors},
                                  {"bytes", group.bytes}});
  }
  json["disagreements"] = report.disagreements;
  json["remarks"] = AllRemarks(report);
  json["processes"] = Json::array();
  for (const ProcessShare& share : report.processes) {
    json["processes"].push_back(Json{{"process", share.process},
                                     {"first_expert", share.first_expert},
                                     {"num_experts", share.num_experts},
                                     {"bytes", share.bytes},
                                     {"absorbed_bytes", share.absorbed_bytes}});
  }
  json["servable"] = report.refusal.empty();
  json["refusal"] = report.refusal.empty() ? Json(nullptr) : Json(report.refusal);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sheaf
