// The hello: what it looks like on the wire, what is refused and why.

#include "exchange/link/hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf {
namespace {

using testing::HasSubstr;

Hello GoodHello() {
  Hello hello;
  hello.model_digest = 0x1112131415161718;
  hello.worker = InstanceId(0x2122232425262728);
  hello.router = InstanceId(0x3132333435363738);
  hello.link = LinkId(0x4142434445464748);
  for (size_t i = 0; i < hello.secret.size(); ++i)
    hello.secret[i] = static_cast<uint8_t>(0x50 + i);
  return hello;
}

TEST(Hello, BytesAreThoseOfTheDocument) {
  const uint8_t wanted[kHelloBytes] = {
      'S',  'H',  'E',  'L',  2,    0,    0,    0,                           // magic, version
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,                        // model
      0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,                        // worker
      0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,                        // router
      0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,                        // link
      0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x5b,  // secret
      0x5c, 0x5d, 0x5e, 0x5f, 0,    0,    0,    0,    0,    0,    0,    0};
  EXPECT_THAT(EncodeHello(GoodHello()), testing::ElementsAreArray(wanted));
  const auto decoded = DecodeHello(EncodeHello(GoodHello()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, GoodHello());
}

TEST(Hello, NoBitIsIgnored) {
  const HelloBytes good = EncodeHello(GoodHello());
  const LinkIdentity self{GoodHello().model_digest, GoodHello().worker, GoodHello().secret};
  for (size_t bit = 0; bit < 8 * kHelloBytes; ++bit) {
    HelloBytes bytes = good;
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto decoded = DecodeHello(bytes);
    const size_t at = bit / 8;
    if (at < 4 || at >= 56) {
      EXPECT_EQ(decoded.status().code(), absl::StatusCode::kInvalidArgument) << bit;
    } else if (at < 8) {
      EXPECT_EQ(decoded.status().code(), absl::StatusCode::kFailedPrecondition) << bit;
      EXPECT_THAT(std::string(decoded.status().message()), HasSubstr("version: wanted 2"));
    } else {
      ASSERT_TRUE(decoded.ok()) << bit;
      EXPECT_NE(*decoded, GoodHello());
      const HelloVerdict verdict = CheckHello(*decoded, self);
      if (at < 16) {
        EXPECT_EQ(verdict, HelloVerdict::kOtherModel);
      } else if (at < 24) {
        EXPECT_EQ(verdict, HelloVerdict::kOtherInstance);
      } else if (at < 40) {
        EXPECT_EQ(verdict, HelloVerdict::kWelcome);  // who the router and its link are is its say
      } else {
        EXPECT_EQ(verdict, HelloVerdict::kWrongSecret) << bit;
      }
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

// A worker of another checkpoint that took over an address says that it is another one: the router
// learns the right address later, and the secret is not discussed.
TEST(Hello, WhoIsMeantIsAskedBeforeWhatItServes) {
  Hello hello = GoodHello();
  const LinkIdentity self{hello.model_digest + 1, InstanceId(1), LinkSecret{}};
  EXPECT_EQ(CheckHello(hello, self), HelloVerdict::kOtherInstance);
}

TEST(HelloAnswer, RoundTripAndRefusals) {
  for (uint32_t verdict = 1; verdict <= 6; ++verdict) {
    const auto bytes = EncodeHelloAnswer(static_cast<HelloVerdict>(verdict));
    EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 4), "SHEA");
    const auto decoded = DecodeHelloAnswer(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, static_cast<HelloVerdict>(verdict));
  }
  const auto good = EncodeHelloAnswer(HelloVerdict::kWelcome);
  for (size_t bit = 0; bit < 8 * kHelloAnswerBytes; ++bit) {
    auto bytes = good;
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto decoded = DecodeHelloAnswer(bytes);
    // 1 -> 3 and 1 -> 5 are verdicts too.
    EXPECT_TRUE(!decoded.ok() || *decoded != HelloVerdict::kWelcome) << bit;
  }
  EXPECT_FALSE(DecodeHelloAnswer(std::span<const uint8_t>(good).first(15)).ok());
}

TEST(HelloAnswer, WhatWillNotGetBetterIsFinal) {
  EXPECT_TRUE(StatusOf(HelloVerdict::kWelcome).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(StatusOf(HelloVerdict::kOtherVersion)));
  EXPECT_TRUE(absl::IsFailedPrecondition(StatusOf(HelloVerdict::kOtherModel)));
  EXPECT_TRUE(absl::IsUnavailable(StatusOf(HelloVerdict::kOtherInstance)));
  EXPECT_TRUE(absl::IsUnavailable(StatusOf(HelloVerdict::kWrongSecret)));
  EXPECT_TRUE(absl::IsUnavailable(StatusOf(HelloVerdict::kBusy)));
}

}  // namespace
}  // namespace sheaf
