#include "router/api/request/json/exact_json.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/json_nul.h"

namespace sheaf {
namespace {

Json LongInteger(const std::string& digits) {
  return Json::binary(std::vector<uint8_t>(digits.begin(), digits.end()));
}

// nlohmann's SAX interface, building the value. A key that comes twice has its last value.
class Builder {
 public:
  bool null() { return Add(nullptr); }
  bool boolean(bool value) { return Add(value); }
  bool number_integer(int64_t value) { return Add(value); }
  bool number_unsigned(uint64_t value) { return Add(value); }
  bool number_float(double value, const std::string& text) {
    const bool is_integer = text.find_first_of(".eE") == std::string::npos;
    return Add(is_integer ? LongInteger(text) : Json(value));
  }
  bool string(std::string& value) { return Add(std::move(value)); }
  bool binary(Json::binary_t& value) { return Add(std::move(value)); }
  bool start_object(size_t) { return Open(Json::object()); }
  bool start_array(size_t) { return Open(Json::array()); }
  bool key(std::string& name) {
    key_ = std::move(name);
    return true;
  }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) {
    error_ = error.what();
    return false;
  }

  Json Take() { return std::move(root_); }
  const std::string& error() const { return error_; }

 private:
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json& member = parent[key_];
    member = std::move(value);
    return &member;
  }
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  bool Open(Json value) {
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // a value moves only when its parent grows, which is after it closed
  std::string key_;
  std::string error_;
};

bool HasLongInteger(const Json& value) {
  if (value.is_binary()) return true;
  if (!value.is_structured()) return false;
  for (const Json& item : value) {
    if (HasLongInteger(item)) return true;
  }
  return false;
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Write(const Json& value, std::string& out) {
  if (const auto digits = LongIntegerDigits(value)) {
    out += *digits;
  } else if (value.is_object()) {
    char separator = '{';
    for (const auto& [key, member] : value.items()) {
      out += separator + Dump(key) + ":";
      Write(member, out);
      separator = ',';
    }
    out += value.empty() ? "{}" : "}";
  } else if (value.is_array()) {
    char separator = '[';
    for (const Json& item : value) {
      out += separator;
      Write(item, out);
      separator = ',';
    }
    out += value.empty() ? "[]" : "]";
  } else {
    out += Dump(value);
  }
}

}  // namespace

Json ParseExactJson(std::string_view text, std::string* error) {
  if (HasNul(text)) {
    if (error != nullptr) *error = "a NUL byte";
    return Json(Json::value_t::discarded);
  }
  Builder builder;
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return builder.Take();
  if (error != nullptr) *error = builder.error();
  return Json(Json::value_t::discarded);
}

std::string DumpExactJson(const Json& value) {
  if (!HasLongInteger(value)) return Dump(value);
  std::string out;
  Write(value, out);
  return out;
}

std::optional<std::string> LongIntegerDigits(const Json& value) {
  if (!value.is_binary()) return std::nullopt;
  const auto& digits = value.get_binary();
  return std::string(digits.begin(), digits.end());
}

}  // namespace sheaf
