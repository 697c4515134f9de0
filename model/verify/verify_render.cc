// Text and JSON of a VerifyReport.

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "model/verify/sha256.h"
#include "model/verify/verify.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

const char* ListedText(const VerifyReport& report, const FileDigest& file) {
  if (file.sha256.empty()) return "  CANNOT BE READ";
  if (!report.has_sums) return "";
  switch (file.listed) {
    case FileDigest::Listed::kSame:
      return "  as listed";
    case FileDigest::Listed::kOther:
      return "  DIFFERS";
    case FileDigest::Listed::kNo:
      break;
  }
  return "  not listed";
}

const char* ListedName(FileDigest::Listed listed) {
  switch (listed) {
    case FileDigest::Listed::kSame:
      return "same";
    case FileDigest::Listed::kOther:
      return "other";
    case FileDigest::Listed::kNo:
      break;
  }
  return "no";
}

void AddLines(const char* title, const std::vector<std::string>& lines, std::string& out) {
  if (lines.empty()) return;
  out += absl::StrFormat("\n%s:\n", title);
  for (const std::string& line : lines) out += "  " + OneLine(line) + "\n";
}

std::string ZeroPointText(const CodeRange& range) {
  std::string out;
  const auto add = [&](uint64_t count, const std::string& what) {
    if (count == 0) return;
    out += absl::StrFormat("%s%d %s", out.empty() ? "" : ", ", count, what);
  };
  add(range.without_zeros, "without");
  for (const auto& [code, count] : range.one_zero)
    add(count, absl::StrFormat("stored as %d", code));
  add(range.several_zeros, "of several values");
  return out;
}

}  // namespace

std::string VerifyText(const VerifyReport& report) {
  std::string out = report.directory + "\n\n";
  for (const FileDigest& file : report.files) {
    out += absl::StrFormat("%s  %s%s\n", file.sha256.empty() ? std::string(64, '-') : file.sha256,
                           OneLine(file.name), ListedText(report, file));
  }
  out += absl::StrFormat("%s  (of the %d lines above%s)\n", report.sha256, report.files.size(),
                         report.has_sums ? "" : "; there is no SHA256SUMS to compare them with");
  out += absl::StrFormat("\n%-16s %-8s %-8s %8s %12s %12s %9s %9s %9s %6s\n", "part", "role",
                         "dtype", "tensors", "min", "max", "below 0", "zero", "subnormal", "NaN");
  for (const ValueRange& range : report.values) {
    const FloatFacts& facts = range.floats;
    const auto share = [&](uint64_t count) {
      const auto all = static_cast<double>(std::max<uint64_t>(facts.count, 1));
      return absl::StrFormat("%.2f %%", 100.0 * static_cast<double>(count) / all);
    };
    out += absl::StrFormat("%-16s %-8s %-8s %8d %12.5g %12.5g %9s %9s %9s %6d\n",
                           ModelPartName(range.part), range.role, range.dtype, range.tensors,
                           facts.min, facts.max, share(facts.negatives), share(facts.zeros),
                           share(facts.subnormals), facts.not_finite);
  }
  if (!report.codes.empty()) out += "\nZero points, Linears:\n";
  for (const CodeRange& range : report.codes)
    out += absl::StrFormat("  %-16s %s\n", ModelPartName(range.part), ZeroPointText(range));
  const GroupIndexKinds& kinds = report.group_indices;
  if (!report.codes.empty()) {
    out += absl::StrFormat(
        "\ng_idx, Linears: %d without, %d of zeros (not set), %d in order, %d permuted\n",
        kinds.absent, kinds.zeros, kinds.in_order, kinds.permuted);
  }
  if (report.reference) {
    out += absl::StrFormat("\nScalar kernels: %d rows of %d Linears compared, %d Linears differ\n",
                           report.reference->rows, report.reference->linears,
                           report.reference->different);
  }
  AddLines("Remarks", report.remarks, out);
  AddLines("Wrong", report.faults, out);
  if (report.num_faults > report.faults.size())
    out += absl::StrFormat("  and %d more\n", report.num_faults - report.faults.size());
  const double gigabytes = static_cast<double>(report.bytes) / 1e9;
  out += absl::StrFormat("\n%.3f GB read in %.2f s, %.2f GB/s\n", gigabytes, report.seconds,
                         report.seconds > 0 ? gigabytes / report.seconds : 0.0);
  out += report.num_faults == 0 ? "Nothing is wrong.\n" : "It is damaged.\n";
  return out;
}

std::string VerifyJson(const VerifyReport& report) {
  using Json = nlohmann::ordered_json;
  Json json = {{"directory", report.directory},
               {"sound", report.num_faults == 0},
               {"num_faults", report.num_faults},
               {"faults", report.faults},
               {"remarks", report.remarks},
               {"sha256", report.sha256},
               {"sha256sums", report.has_sums}};
  json["files"] = Json::array();
  for (const FileDigest& file : report.files) {
    json["files"].push_back(Json{{"name", file.name},
                                 {"bytes", file.bytes},
                                 {"sha256", file.sha256},
                                 {"listed", ListedName(file.listed)}});
  }
  json["values"] = Json::array();
  for (const ValueRange& range : report.values) {
    const bool any = range.floats.count > range.floats.not_finite;
    json["values"].push_back(Json{{"part", std::string(ModelPartName(range.part))},
                                  {"role", range.role},
                                  {"dtype", range.dtype},
                                  {"tensors", range.tensors},
                                  {"count", range.floats.count},
                                  {"not_finite", range.floats.not_finite},
                                  {"negatives", range.floats.negatives},
                                  {"zeros", range.floats.zeros},
                                  {"subnormals", range.floats.subnormals},
                                  {"min", any ? Json(range.floats.min) : Json(nullptr)},
                                  {"max", any ? Json(range.floats.max) : Json(nullptr)}});
  }
  json["codes"] = Json::array();
  for (const CodeRange& range : report.codes) {
    Json one_zero = Json::object();
    for (const auto& [code, count] : range.one_zero) one_zero[absl::StrFormat("%d", code)] = count;
    json["codes"].push_back(Json{{"part", std::string(ModelPartName(range.part))},
                                 {"tensors", range.tensors},
                                 {"counts", range.counts},
                                 {"without_zero_points", range.without_zeros},
                                 {"one_stored_zero_point", one_zero},
                                 {"several_zero_points", range.several_zeros}});
  }
  json["group_indices"] = {{"absent", report.group_indices.absent},
                           {"zeros", report.group_indices.zeros},
                           {"in_order", report.group_indices.in_order},
                           {"permuted", report.group_indices.permuted}};
  if (report.reference) {
    json["reference"] = {{"linears", report.reference->linears},
                         {"rows", report.reference->rows},
                         {"different", report.reference->different}};
  }
  json["bytes"] = report.bytes;
  json["seconds"] = report.seconds;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sheaf
