#include "cli/top/top_frame.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"

namespace sheaf {
namespace {

using Json = nlohmann::json;

const Json& At(const Json& json, const std::string& path) {
  static const Json kNothing;
  const Json::json_pointer pointer(path);
  return json.contains(pointer) ? json.at(pointer) : kNothing;
}

double Number(const Json& json, const std::string& path) {
  const Json& value = At(json, path);
  return value.is_number() ? value.get<double>() : 0;
}

std::string Text(const Json& json, const std::string& path) {
  const Json& value = At(json, path);
  return value.is_string() ? OneLine(value.get<std::string>()) : "";
}

bool Flag(const Json& json, const std::string& path) {
  const Json& value = At(json, path);
  return value.is_boolean() && value.get<bool>();
}

std::string Size(double bytes) {
  if (bytes >= 1e9) return absl::StrFormat("%.1f GB", bytes / 1e9);
  return absl::StrFormat("%.1f MB", bytes / 1e6);
}

std::string Time(double seconds) {
  if (seconds >= 1) return absl::StrFormat("%.2f s", seconds);
  if (seconds >= 1e-3) return absl::StrFormat("%.1f ms", seconds * 1e3);
  return absl::StrFormat("%.0f us", seconds * 1e6);
}

std::string Age(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  if (whole < 60) return absl::StrFormat("%d s", whole);
  if (whole < 3600) return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %d min", whole / 3600, whole / 60 % 60);
}

// Changes between two answers.
class Changes {
 public:
  Changes(const Json& now, const Json* before, double seconds)
      : now_(now), before_(before), seconds_(seconds) {}

  bool known() const { return before_ != nullptr && seconds_ > 0; }
  double Of(const std::string& path) const {
    return known() ? std::max(0.0, Number(now_, path) - Number(*before_, path)) : 0;
  }
  std::string Rate(const std::string& path) const {
    return known() ? absl::StrFormat("%.1f", Of(path) / seconds_) : "-";
  }
  std::string Mean(const std::string& histogram) const {
    const double count = Of("/figures/" + histogram + "/count");
    return count > 0 ? Time(Of("/figures/" + histogram + "/sum") / count) : "-";
  }

 private:
  const Json& now_;
  const Json* const before_;
  const double seconds_;
};

enum class Ink { kPlain, kBold, kGood, kWarn, kBad, kFaint };

const char* CodeOf(Ink ink) {
  switch (ink) {
    case Ink::kPlain:
      return "";
    case Ink::kBold:
      return "\x1b[1m";
    case Ink::kGood:
      return "\x1b[32m";
    case Ink::kWarn:
      return "\x1b[33m";
    case Ink::kBad:
      return "\x1b[1;31m";
    case Ink::kFaint:
      return "\x1b[2m";
  }
  return "";
}

struct Line {
  std::string text;
  Ink ink = Ink::kPlain;
};

Ink InkOf(const std::string& state) {
  if (state == "ready") return Ink::kGood;
  if (state == "hangs" || state == "quarantined" || state == "not ready" || state == "lost") {
    return Ink::kBad;
  }
  return Ink::kWarn;
}

// Cells of ASCII text, columns as wide as their longest cell; numbers to the right.
struct Row {
  std::vector<std::string> cells;
  Ink ink = Ink::kPlain;
};

void AppendTable(const std::vector<Row>& rows, const std::vector<bool>& right,
                 std::vector<Line>& lines) {
  std::vector<size_t> width(right.size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < right.size(); ++i) width[i] = std::max(width[i], row.cells[i].size());
  }
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < right.size(); ++i) {
      const std::string blanks(width[i] - row.cells[i].size(), ' ');
      absl::StrAppend(&line, right[i] ? blanks : "", row.cells[i], right[i] ? "" : blanks,
                      i + 1 < right.size() ? "  " : "");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back({line, row.ink});
  }
}

std::string Bar(double share, int width) {
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * width));
  std::string bar = "[";
  bar.append(static_cast<size_t>(full), '#');
  bar.append(static_cast<size_t>(width - full), '.');
  return bar + "]";
}

void AppendRouter(const Json& now, const Changes& changes, std::vector<Line>& lines) {
  const std::string state = Text(now, "/state");
  const std::string loading =
      state == "loading" ? absl::StrFormat(" %.0f %%", 100 * Number(now, "/progress")) : "";
  lines.push_back({absl::StrFormat("%s  %s%s  up %s  sheaf %s", Text(now, "/model"), state, loading,
                                   Age(Number(now, "/uptime_seconds")), Text(now, "/version")),
                   InkOf(state) == Ink::kGood ? Ink::kBold : InkOf(state)});
  const double used = Number(now, "/load/kv_blocks_used");
  const double total = Number(now, "/load/kv_blocks_total");
  lines.push_back({absl::StrFormat(
      "tokens/s %s  prompt tokens/s %s  running %.0f  waiting %.0f  KV %s %.0f of %.0f blocks",
      changes.Rate("/figures/sheaf_generated_tokens_total"),
      changes.Rate("/figures/sheaf_prompt_tokens_total"), Number(now, "/load/running"),
      Number(now, "/load/queued"), Bar(total > 0 ? used / total : 0, 10), used, total)});
  lines.push_back({absl::StrFormat(
      "first token %s  between tokens %s  queue %s  step %s  steps/s %s  given up %.0f  "
      "preempted %.0f",
      changes.Mean("sheaf_time_to_first_token_seconds"),
      changes.Mean("sheaf_inter_token_latency_seconds"), changes.Mean("sheaf_queue_seconds"),
      changes.Mean("sheaf_step_duration_seconds"), changes.Rate("/figures/sheaf_steps_total"),
      Number(now, "/figures/sheaf_steps_given_up_total"),
      Number(now, "/figures/sheaf_preemptions_total"))});
}

// The share of the pairs computed between two answers that was each worker's.
std::map<int, double> Shares(const Json& workers, const Json* before) {
  std::map<int, double> pairs;
  double sum = 0;
  for (const Json& worker : workers) {
    const int id = static_cast<int>(Number(worker, "/id"));
    pairs[id] = Number(worker, "/pairs_total");
    if (before != nullptr) {
      for (const Json& old : At(*before, "/pool/workers")) {
        if (static_cast<int>(Number(old, "/id")) == id) pairs[id] -= Number(old, "/pairs_total");
      }
    }
    pairs[id] = std::max(0.0, pairs[id]);
    sum += pairs[id];
  }
  for (auto& [id, share] : pairs) share = sum > 0 ? share / sum : 0;
  return pairs;
}

void AppendWorkers(const Json& now, const Json* before, std::vector<Line>& lines) {
  const Json& workers = At(now, "/pool/workers");
  if (!workers.is_array() || workers.empty()) return;
  const std::map<int, double> shares = Shares(workers, before);
  std::vector<Row> rows;
  rows.push_back({{"id", "state", "link", "holds", "memory", "share of pairs", "unit", "breaks",
                   "late", "process", "note"},
                  Ink::kFaint});
  for (const Json& worker : workers) {
    const int id = static_cast<int>(Number(worker, "/id"));
    const bool live = Flag(worker, "/link/live");
    const bool member = At(worker, "/member").is_object();
    const std::string state = member ? Text(worker, "/member/state") : "-";
    std::string memory = "-", holds = "-";
    if (member) {
      memory = Size(Number(worker, "/member/resident_bytes"));
      holds = absl::StrFormat("%.0f/%.0f", Number(worker, "/member/held_experts"),
                              Number(worker, "/member/wanted_experts"));
      if (const double left = Number(worker, "/member/left_bytes"); left > 0) {
        absl::StrAppend(&memory, " +", Size(left));
      }
    }
    std::string note = Text(worker, "/member/note");
    if (note.empty()) note = Text(worker, "/link/reason");
    const double share = shares.at(id), unit = Number(worker, "/link/seconds_per_unit");
    rows.push_back({{absl::StrCat(id), state, live ? "up" : "down", holds, memory,
                     absl::StrFormat("%s %5.1f %%", Bar(share, 10), 100 * share),
                     unit > 0 ? Time(unit) : "-",
                     absl::StrFormat("%.0f", Number(worker, "/link/failures")),
                     absl::StrFormat("%.0f", Number(worker, "/link/late_answers")),
                     Text(worker, "/name"), note},
                    !live ? Ink::kBad : member && state != "ready" ? InkOf(state) : Ink::kPlain});
  }
  lines.push_back({});
  AppendTable(rows, {true, false, false, true, true, true, true, true, true, false, false}, lines);
}

void AppendPool(const Json& now, const Json* before, std::vector<Line>& lines) {
  if (!At(now, "/pool").is_object()) return;
  const std::string place = Text(now, "/pool/experts_in");
  if (place == "router") {
    lines.push_back({"the experts are in the router's process"});
    return;
  }
  std::string line = absl::StrFormat(
      "experts held by none %.0f, one %.0f, two %.0f, more %.0f; %.0f live links",
      Number(now, "/pool/coverage/0"), Number(now, "/pool/coverage/1"),
      Number(now, "/pool/coverage/2"), Number(now, "/pool/coverage/3"),
      Number(now, "/pool/live_links"));
  if (At(now, "/pool/coordinator").is_object()) {
    absl::StrAppend(&line, absl::StrFormat("; %g holders wanted, %.0f routers",
                                           Number(now, "/pool/coordinator/replicas"),
                                           Number(now, "/pool/coordinator/routers")));
    if (const double moving = Number(now, "/pool/coordinator/moving_bytes"); moving > 0) {
      absl::StrAppend(&line, "; ", Size(moving), " still to load");
    }
  }
  const bool complete = Flag(now, "/pool/complete");
  lines.push_back({line, complete ? Ink::kPlain : Ink::kBad});
  if (const std::string text = Text(now, "/pool/text"); !text.empty()) {
    lines.push_back({text, complete ? Ink::kFaint : Ink::kBad});
  }
  AppendWorkers(now, before, lines);
  const Json& lost = At(now, "/pool/coordinator/lost");
  if (!lost.is_array() || lost.empty()) return;
  lines.push_back({});
  std::vector<const Json*> newest;
  for (const Json& one : lost) newest.push_back(&one);
  std::sort(newest.begin(), newest.end(), [](const Json* a, const Json* b) {
    return Number(*a, "/ms_ago") < Number(*b, "/ms_ago");
  });
  for (const Json* one : newest) {
    lines.push_back({absl::StrFormat("lost %s ago: worker %.0f (%.0f on %s): %s",
                                     Age(Number(*one, "/ms_ago") / 1e3), Number(*one, "/id"),
                                     Number(*one, "/pid"), Text(*one, "/host"),
                                     Text(*one, "/reason")),
                     Ink::kWarn});
  }
}

// At most so many characters of UTF-8.
std::string Cut(const std::string& text, size_t columns) {
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
    if (characters++ == columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

std::string TopFrame(const nlohmann::json& now, const nlohmann::json* before, double seconds,
                     const TopStyle& style) {
  // A router that was started anew counts from 0 again.
  if (before != nullptr && Number(now, "/uptime_seconds") < Number(*before, "/uptime_seconds")) {
    before = nullptr;
  }
  std::vector<Line> lines;
  AppendRouter(now, Changes(now, before, seconds), lines);
  AppendPool(now, before, lines);
  const auto rows = static_cast<size_t>(std::max(0, style.rows));
  if (rows > 1 && lines.size() > rows) {
    const size_t left_out = lines.size() - rows + 1;
    lines.resize(rows - 1);
    lines.push_back({absl::StrFormat("... %d more lines", left_out), Ink::kFaint});
  }
  std::string frame;
  for (const Line& line : lines) {
    const std::string text =
        style.columns > 0 ? Cut(line.text, static_cast<size_t>(style.columns)) : line.text;
    const bool inked = style.colour && line.ink != Ink::kPlain;
    absl::StrAppend(&frame, inked ? CodeOf(line.ink) : "", text, inked ? "\x1b[0m" : "", "\n");
  }
  return frame;
}

}  // namespace sheaf
