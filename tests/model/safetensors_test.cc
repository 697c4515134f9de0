// The safetensors header reader: what it returns for a good file, and that each kind of damage is
// refused by name.

#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_format.h"
#include "tests/model/checkpoint_writer.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;
using testing::SafetensorsWithHeader;

absl::StatusOr<std::vector<TensorInfo>> Parse(const std::string& file) {
  return ParseSafetensorsHeader({reinterpret_cast<const uint8_t*>(file.data()), file.size()},
                                file.size(), "x.safetensors");
}

std::string Tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   int begin, int end) {
  return absl::StrFormat(R"("%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]})", name, dtype,
                         shape, begin, end);
}

TEST(SafetensorsHeader, GivesNameDtypeShapeAndByteRangeOfEachTensor) {
  const std::string header =
      "{\"__metadata__\":{\"format\":\"pt\"}," + Tensor("b", "I64", "[2]", 12, 28) + "," +
      Tensor("a", "BF16", "[2,3]", 0, 12) + "," + Tensor("none", "F32", "[0,7]", 28, 28) + "}";
  const std::string file = SafetensorsWithHeader(header, 28);
  const auto tensors = Parse(file);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  const TensorInfo& a = (*tensors)[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, TensorDtype::kBF16);
  EXPECT_EQ(a.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a.file, "x.safetensors");
  EXPECT_EQ(a.offset, 8 + header.size());
  EXPECT_EQ(a.bytes, 12u);
  EXPECT_EQ((*tensors)[2].bytes, 0u);
}

TEST(SafetensorsHeader, AcceptsAnEmptyFileOfNoTensorsAndPaddingSpaces) {
  const auto tensors = Parse(SafetensorsWithHeader("{}     ", 0));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_TRUE(tensors->empty());
}

struct BadHeader {
  std::string name;
  std::string header;
  uint64_t data_bytes;
  std::string message;
};

class SafetensorsDamage : public ::testing::TestWithParam<BadHeader> {};

TEST_P(SafetensorsDamage, IsRefusedWithTheFileAndTheReason) {
  const BadHeader& bad = GetParam();
  const auto tensors = Parse(SafetensorsWithHeader(bad.header, bad.data_bytes));
  ASSERT_FALSE(tensors.ok());
  EXPECT_THAT(std::string(tensors.status().message()), HasSubstr("x.safetensors"));
  EXPECT_THAT(std::string(tensors.status().message()), HasSubstr(bad.message));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, SafetensorsDamage,
    ::testing::Values(
        BadHeader{"NotJson", "{\"a\":", 0, "not JSON"},
        BadHeader{"NotAnObject", "[1]", 0, "not a JSON object"},
        BadHeader{"NoDtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                  "tensor a: no \"dtype\""},
        BadHeader{"UnknownDtype", "{" + Tensor("a", "F4_E9", "[1]", 0, 4) + "}", 4,
                  "unknown dtype \"F4_E9\""},
        BadHeader{"HalfAByte", "{" + Tensor("a", "F4", "[3]", 0, 1) + "}", 1,
                  "F4 [3] does not fill whole bytes"},
        BadHeader{"SixBits", "{" + Tensor("a", "F6_E2M3", "[8]", 0, 8) + "}", 8,
                  "F6_E2M3 [8] wants 6 bytes, data_offsets give 8"},
        BadHeader{"ShapeNotArray", "{" + Tensor("a", "F32", "4", 0, 4) + "}", 4,
                  "no \"shape\" array"},
        BadHeader{"NegativeDimension", "{" + Tensor("a", "F32", "[-1]", 0, 4) + "}", 4,
                  "not a size"},
        BadHeader{"OverflowingShape",
                  "{" + Tensor("a", "F32", "[4294967296,4294967296]", 0, 4) + "}", 4, "overflows"},
        BadHeader{"TooManyDimensions", "{" + Tensor("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) + "}",
                  4, "dimensions"},
        BadHeader{"BytesAgainstShape", "{" + Tensor("a", "F32", "[2]", 0, 4) + "}", 4,
                  "wants 8 bytes"},
        BadHeader{"DescendingOffsets", "{" + Tensor("a", "F32", "[1]", 4, 0) + "}", 4, "ascending"},
        BadHeader{"Truncated", "{" + Tensor("a", "F32", "[2]", 0, 8) + "}", 4, "outside the file"},
        BadHeader{
            "Overlap",
            "{" + Tensor("a", "F32", "[2]", 0, 8) + "," + Tensor("b", "F32", "[2]", 4, 12) + "}",
            12, "tensors a and b overlap"},
        BadHeader{
            "Gap",
            "{" + Tensor("a", "F32", "[1]", 0, 4) + "," + Tensor("b", "F32", "[1]", 8, 12) + "}",
            12, "tensor b starts at"},
        BadHeader{"TrailingBytes", "{" + Tensor("a", "F32", "[1]", 0, 4) + "}", 9,
                  "5 bytes after the last tensor"},
        BadHeader{
            "Twice",
            "{" + Tensor("a", "F32", "[1]", 0, 4) + "," + Tensor("a", "F32", "[1]", 4, 8) + "}", 8,
            "tensor a is listed twice"}),
    [](const auto& instance) { return instance.param.name; });

TEST(SafetensorsHeader, RefusesLengthsThatCannotBe) {
  std::string file = SafetensorsWithHeader("{}", 0);
  file[7] = 0x7F;  // a header of 2^62 bytes
  EXPECT_THAT(std::string(Parse(file).status().message()), HasSubstr("wanted at most"));
  file = SafetensorsWithHeader("{}", 0);
  file[0] = 100;  // longer than the file
  EXPECT_EQ(Parse(file).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Parse("abc").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Parse("").status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sheaf
