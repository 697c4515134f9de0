#pragma once
// What can be said of a schema without compiling it: where a reference points, and which JSON types
// a value may have.
//
// Ownership  Pointers into the schema document, which outlives them.
// Errors     Meant for schemas that CheckSchema has accepted; of others it says what it can.
// Cost       Bounded: chains of references are followed 64 deep, then anything is possible.

#include <cstdint>
#include <string>
#include <string_view>

#include "nlohmann/json.hpp"

namespace sheaf {

// Keeps the order of keys: it is the order in which properties are written.
using SchemaJson = nlohmann::ordered_json;

using TypeSet = uint8_t;
inline constexpr TypeSet kNullType = 1;
inline constexpr TypeSet kBooleanType = 2;
inline constexpr TypeSet kIntegerType = 4;
inline constexpr TypeSet kFractionType = 8;  // a number that is no integer
inline constexpr TypeSet kStringType = 16;
inline constexpr TypeSet kArrayType = 32;
inline constexpr TypeSet kObjectType = 64;
inline constexpr TypeSet kAnyType = 127;

// Of a type's name in a schema; 0 for an unknown one.
TypeSet TypeByName(std::string_view name);
TypeSet TypeOfValue(const SchemaJson& value);

// The target of "#/a/b" in `root`, null if there is none.
const SchemaJson* ResolveReference(const SchemaJson& root, std::string_view reference);

// The types that a value of `schema` may have; never too few.
TypeSet TypesOf(const SchemaJson& root, const SchemaJson& schema);

// Whether it is plain that no value satisfies both: other types, other values, or
// other values of a property that both require.
bool AreDisjoint(const SchemaJson& root, const SchemaJson& a, const SchemaJson& b);

}  // namespace sheaf
