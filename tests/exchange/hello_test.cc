// The hello's messages: what they look like on the wire, and what is none of them.

#include "exchange/link/hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace sheaf {
namespace {

using testing::HasSubstr;

Hello GoodHello() {
  Hello hello;
  hello.model_digest = 0x1112131415161718;
  hello.worker = InstanceId(0x2122232425262728);
  hello.router = InstanceId(0x3132333435363738);
  hello.link = LinkId(0x4142434445464748);
  hello.integrity = FrameIntegrity::kMac;
  for (size_t i = 0; i < hello.nonce.size(); ++i)
    hello.nonce[i] = static_cast<uint8_t>(0x50 + i);
  return hello;
}

TEST(Hello, BytesAreThoseOfTheDocument) {
  const uint8_t wanted[kHelloBytes] = {
      'S',  'H',  'E',  'L',  3,    0,    0,    0,     // magic, version
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // model
      0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,  // worker
      0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,  // router
      0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,  // link
      1,    0,    0,    0,    0,    0,    0,    0,     // integrity, rows
      0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57,  // nonce
      0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f};
  EXPECT_THAT(EncodeHello(GoodHello()), testing::ElementsAreArray(wanted));
  const auto decoded = DecodeHello(EncodeHello(GoodHello()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, GoodHello());
  Hello eight = GoodHello();
  eight.rows_of_8_bits = true;
  EXPECT_EQ(EncodeHello(eight)[41], 1);
  EXPECT_EQ(*DecodeHello(EncodeHello(eight)), eight);
}

TEST(Hello, NoBitIsIgnored) {
  const HelloBytes good = EncodeHello(GoodHello());
  for (size_t bit = 0; bit < 8 * kHelloBytes; ++bit) {
    HelloBytes bytes = good;
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto decoded = DecodeHello(bytes);
    const size_t at = bit / 8;
    if (at < 4 || (at >= 40 && at < 48 && bit != 8 * 40 && bit != 8 * 41)) {
      EXPECT_EQ(decoded.status().code(), absl::StatusCode::kInvalidArgument) << bit;
    } else if (at < 8) {
      EXPECT_EQ(decoded.status().code(), absl::StatusCode::kFailedPrecondition) << bit;
      EXPECT_THAT(std::string(decoded.status().message()), HasSubstr("version: wanted 3"));
    } else {
      ASSERT_TRUE(decoded.ok()) << bit;
      EXPECT_NE(*decoded, GoodHello());
    }
  }
}

TEST(Hello, ALinkHasANumber) {
  Hello hello = GoodHello();
  hello.link = LinkId();
  EXPECT_THAT(std::string(DecodeHello(EncodeHello(hello)).status().message()), HasSubstr("link"));
  for (size_t bytes = 0; bytes < kHelloBytes; ++bytes) {
    EXPECT_FALSE(
        DecodeHello(std::span<const uint8_t>(EncodeHello(GoodHello())).first(bytes)).ok());
  }
}

TEST(HelloAnswer, RoundTripAndRefusals) {
  for (uint32_t verdict = 1; verdict <= 10; ++verdict) {
    HelloAnswer answer{static_cast<HelloVerdict>(verdict), FrameIntegrity::kMac, {}};
    if (answer.verdict == HelloVerdict::kProve) answer.body[15] = 7;
    if (answer.verdict == HelloVerdict::kWelcome) answer.body[31] = 7;
    const auto bytes = EncodeHelloAnswer(answer);
    EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 4), "SHEA");
    const auto decoded = DecodeHelloAnswer(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, answer);
    EXPECT_FALSE(DecodeHelloAnswer(std::span<const uint8_t>(bytes).first(47)).ok());
  }
  // What a verdict has no use for is zero.
  HelloAnswer answer{HelloVerdict::kBusy, FrameIntegrity::kNone, {}};
  answer.body[0] = 1;
  EXPECT_FALSE(DecodeHelloAnswer(EncodeHelloAnswer(answer)).ok());
  answer = {HelloVerdict::kProve, FrameIntegrity::kNone, {}};
  answer.body[16] = 1;
  EXPECT_FALSE(DecodeHelloAnswer(EncodeHelloAnswer(answer)).ok());
  for (const size_t at : {0u, 4u, 8u, 9u, 15u}) {
    HelloAnswerBytes bytes = EncodeHelloAnswer({HelloVerdict::kProve, FrameIntegrity::kNone, {}});
    bytes[at] = 0xff;
    EXPECT_FALSE(DecodeHelloAnswer(bytes).ok()) << at;
  }
}

TEST(HelloProof, RoundTripAndRefusals) {
  LinkProof proof{};
  proof[0] = 1;
  proof[31] = 2;
  const HelloProofBytes bytes = EncodeHelloProof(proof);
  EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 4), "SHEP");
  const auto decoded = DecodeHelloProof(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, proof);
  for (size_t at = 0; at < 8; ++at) {
    HelloProofBytes wrong = bytes;
    wrong[at] ^= 1;
    EXPECT_FALSE(DecodeHelloProof(wrong).ok()) << at;
  }
  EXPECT_FALSE(DecodeHelloProof(std::span<const uint8_t>(bytes).first(39)).ok());
}

TEST(HelloAnswer, WhatWillNotGetBetterIsFinal) {
  const auto status_of = [](HelloVerdict verdict) {
    return StatusOf({verdict, FrameIntegrity::kNone, {}}, GoodHello());
  };
  EXPECT_TRUE(status_of(HelloVerdict::kWelcome).ok());
  EXPECT_TRUE(status_of(HelloVerdict::kProve).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(status_of(HelloVerdict::kOtherVersion)));
  EXPECT_TRUE(absl::IsFailedPrecondition(status_of(HelloVerdict::kOtherModel)));
  EXPECT_TRUE(absl::IsUnavailable(status_of(HelloVerdict::kOtherInstance)));
  EXPECT_TRUE(absl::IsUnauthenticated(status_of(HelloVerdict::kWrongKey)));
  EXPECT_TRUE(absl::IsUnavailable(status_of(HelloVerdict::kReplayed)));
  EXPECT_TRUE(absl::IsUnavailable(status_of(HelloVerdict::kBusy)));
  const absl::Status integrity = status_of(HelloVerdict::kOtherIntegrity);
  EXPECT_TRUE(absl::IsFailedPrecondition(integrity));
  EXPECT_EQ(integrity.message(),
            "--exchange-integrity: this router has mac, the worker has none");
  EXPECT_TRUE(absl::IsFailedPrecondition(status_of(HelloVerdict::kOtherActivations)));
}

}  // namespace
}  // namespace sheaf
