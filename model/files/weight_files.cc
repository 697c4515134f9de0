#include "model/files/weight_files.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kModelStem = "model";
constexpr std::string_view kBesideAModel[] = {"mtp", "consolidated", "adapter_model"};
constexpr int kMaxShards = 100'000;

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string_view Without(std::string_view text, std::string_view end) {
  return text.substr(0, text.size() - end.size());
}

// The digits that `text` ends with; empty if there are none.
std::string_view LastDigits(std::string_view text) {
  const size_t other = text.find_last_not_of("0123456789");
  return text.substr(other == std::string_view::npos ? 0 : other + 1);
}

std::optional<int> Number(std::string_view digits) {
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc() || value > kMaxShards) return std::nullopt;
  return value;
}

// "STEM-00002-of-00007" taken apart.
struct Numbered {
  std::string_view stem;
  int number = 0;
  int count = 0;
  size_t digits = 0;
};

std::optional<Numbered> ParseNumbered(std::string_view name) {
  constexpr std::string_view kOf = "-of-";
  const std::string_view count = LastDigits(name);
  std::string_view rest = Without(name, count);
  if (!EndsWith(rest, kOf)) return std::nullopt;
  rest = Without(rest, kOf);
  const std::string_view number = LastDigits(rest);
  rest = Without(rest, number);
  if (!EndsWith(rest, "-") || rest.size() < 2) return std::nullopt;
  const std::optional<int> n = Number(number), of = Number(count);
  if (!n || !of) return std::nullopt;
  return Numbered{rest.substr(0, rest.size() - 1), *n, *of, number.size()};
}

// What the directory has of one stem.
struct Stem {
  std::string whole, index;
  std::vector<std::pair<Numbered, std::string>> numbered;

  std::string Example() const {
    if (!whole.empty()) return whole;
    return index.empty() ? numbered.front().second : index;
  }
};

absl::StatusOr<std::vector<std::string>> InOrder(const Stem& stem, std::string_view name,
                                                 const std::string& directory) {
  std::vector<std::string> files;
  if (stem.numbered.empty()) return files;
  const Numbered& first = stem.numbered.front().first;
  std::map<int, std::string> by_number;
  for (const auto& [numbered, file] : stem.numbered) {
    if (numbered.count != first.count) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: wanted the shards of one checkpoint, got %s and %s", directory,
                          stem.numbered.front().second, file));
    }
    if (!by_number.emplace(numbered.number, file).second) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: two shards of one number: %s and %s", directory, by_number[numbered.number], file));
    }
  }
  const int begin = by_number.begin()->first == 0 ? 0 : 1;  // some writers count from 0
  for (int number = begin; number < begin + first.count; ++number) {
    const auto at = by_number.find(number);
    if (at == by_number.end()) {
      return absl::NotFoundError(absl::StrFormat(
          "%s/%s-%0*d-of-%0*d%s: missing shard: %s is there, and there is no index", directory,
          name, static_cast<int>(first.digits), number, static_cast<int>(first.digits), first.count,
          kSuffix, by_number.begin()->second));
    }
    files.push_back(at->second);
  }
  if (files.size() != by_number.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s: wanted a number of %d to %d",
                                                      directory, by_number.rbegin()->second, begin,
                                                      begin + first.count - 1));
  }
  return files;
}

bool IsBesideAModel(std::string_view stem) {
  return std::find(std::begin(kBesideAModel), std::end(kBesideAModel), stem) !=
         std::end(kBesideAModel);
}

// What else the weights are in; "" = nothing known.
std::string_view UnreadFormat(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (EndsWith(name, ".gguf")) return "GGUF files";
    if (EndsWith(name, ".bin") || EndsWith(name, ".pth")) return "PyTorch pickles";
    if (EndsWith(name, ".npz")) return "NumPy archives (MLX)";
  }
  return "";
}

using Stems = std::map<std::string, Stem, std::less<>>;

// The stem that is the model's; the end where the directory has none.
absl::StatusOr<Stems::const_iterator> ChooseStem(const Stems& stems, const std::string& directory) {
  if (const auto model = stems.find(kModelStem); model != stems.end()) return model;
  const auto only = [&](const auto& wanted) -> absl::StatusOr<Stems::const_iterator> {
    auto found = stems.end();
    for (auto at = stems.begin(); at != stems.end(); ++at) {
      if (!wanted(*at)) continue;
      if (found != stems.end()) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%s: wanted the weights of one model, got %s and %s: name the right one "
            "model.safetensors, or give it an index",
            directory, found->second.Example(), at->second.Example()));
      }
      found = at;
    }
    return found;
  };
  const auto is_model = [](const auto& entry) { return !IsBesideAModel(entry.first); };
  SHEAF_ASSIGN_OR_RETURN(auto chosen, only([&](const auto& entry) {
                           return is_model(entry) && !entry.second.index.empty();
                         }));
  if (chosen != stems.end()) return chosen;
  SHEAF_ASSIGN_OR_RETURN(chosen, only(is_model));
  if (chosen != stems.end()) return chosen;
  return only([](const auto&) { return true; });
}

}  // namespace

absl::StatusOr<WeightFiles> ChooseWeightFiles(std::vector<std::string> names,
                                              const std::string& directory) {
  std::sort(names.begin(), names.end());  // messages do not depend on the file system
  Stems stems;
  for (const std::string& name : names) {
    if (EndsWith(name, kIndexSuffix)) {
      stems[std::string(Without(name, kIndexSuffix))].index = name;
    } else if (EndsWith(name, kSuffix)) {
      const std::string_view stem = Without(name, kSuffix);
      if (const std::optional<Numbered> numbered = ParseNumbered(stem)) {
        stems[std::string(numbered->stem)].numbered.emplace_back(*numbered, name);
      } else {
        stems[std::string(stem)].whole = name;
      }
    }
  }
  SHEAF_ASSIGN_OR_RETURN(const auto chosen, ChooseStem(stems, directory));
  if (chosen == stems.end()) {
    if (const std::string_view unread = UnreadFormat(names); !unread.empty()) {
      return absl::UnimplementedError(absl::StrFormat(
          "%s: %s are not read: wanted .safetensors files", directory, unread));
    }
    return absl::NotFoundError(absl::StrFormat(
        "%s: neither model.safetensors nor model.safetensors.index.json nor other .safetensors "
        "files of one model",
        directory));
  }
  const Stem& stem = chosen->second;
  WeightFiles files{stem.whole, stem.index, {}};
  if (!stem.whole.empty() || !stem.index.empty()) return files;
  SHEAF_ASSIGN_OR_RETURN(files.numbered, InOrder(stem, chosen->first, directory));
  return files;
}

}  // namespace sheaf
