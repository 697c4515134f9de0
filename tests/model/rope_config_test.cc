// The rotary embedding in config.json: where its keys may be, what contradicts, what is misspelt.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/config/rope_json.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using kernels::RopeScaling;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<RopeConfig> Read(const json& config) {
  return ReadRope(JsonObject(config, "c.json"), 0.5, 131072);
}

RopeConfig MustRead(const json& config) {
  const auto read = Read(config);
  EXPECT_TRUE(read.ok()) << config << read.status();
  return read.ok() ? *read : RopeConfig{};
}

void ExpectRefusal(const json& config, absl::StatusCode code, const std::string& key) {
  const auto read = Read(config);
  EXPECT_EQ(read.status().code(), code) << config;
  EXPECT_THAT(std::string(read.status().message()), AllOf(HasSubstr("c.json"), HasSubstr(key)))
      << config;
}

TEST(RopeConfig, ThetaWhereverWritersPutIt) {
  for (const json& config :
       {json{{"rope_theta", 7777}},
        json{{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7777}}}},
        json{{"rope_parameters", {{"rope_theta", 7777}}}},
        json{{"rope_theta", 5555}, {"rope_parameters", {{"rope_theta", 7777}}}},
        json{{"rope_theta", 7777}, {"rope_parameters", {{"rope_type", "default"}}}},
        json{{"rope_theta", 7777}, {"rope_scaling", {{"type", "default"}}}},
        json{{"rope_parameters", {{"full_attention", {{"rope_theta", 7777}}}}}},
        json{{"layer_types", {"deepseek_sparse_attention"}},
             {"rope_parameters",
              {{"indexed_attention", {{"rope_theta", 7777}}},
               {"sliding_attention", {{"rope_theta", 1}}}}}}}) {
    const RopeConfig rope = MustRead(config);
    EXPECT_EQ(rope.rope.theta, 7777) << config;
    EXPECT_EQ(rope.rope.scaling, RopeScaling::kNone) << config;
    EXPECT_EQ(rope.partial_rotary, 0.5) << config;
    EXPECT_THAT(rope.remarks, IsEmpty()) << config;
  }
  EXPECT_EQ(MustRead({{"partial_rotary_factor", 0.25}, {"rope_theta", 9}}).partial_rotary, 0.25);
  EXPECT_EQ(MustRead({{"partial_rotary_factor", 0.25},
                      {"rope_parameters", {{"partial_rotary_factor", 1.0}, {"rope_theta", 9}}}})
                .partial_rotary,
            1.0);
}

TEST(RopeConfig, NowhereIsTheLibrarysDefaultWithARemark) {
  for (const json& config : {json::object(), json{{"rope_parameters", json::object()}},
                             json{{"rope_parameters", {{"rope_type", "default"}}}}}) {
    const RopeConfig rope = MustRead(config);
    EXPECT_EQ(rope.rope.theta, 10000);
    EXPECT_THAT(rope.remarks, Contains(HasSubstr("rope_theta is nowhere")));
  }
}

TEST(RopeConfig, MisspeltOrUnreadableIsNeverTenThousand) {
  const absl::StatusCode invalid = absl::StatusCode::kInvalidArgument;
  ExpectRefusal({{"rope_parameters", {{"theta", 7777}}}}, invalid, "theta");
  ExpectRefusal({{"rope_parameters", {{"rope_thetta", 7777}}}}, invalid, "rope_thetta");
  ExpectRefusal({{"rope_base", 7777}}, invalid, "rope_base");
  ExpectRefusal({{"rotary_emb_base", 7777}}, invalid, "rotary_emb_base");
  ExpectRefusal({{"rope_params", {{"rope_theta", 7777}}}}, invalid, "rope_params");
  ExpectRefusal({{"rope_parameters", "theta=7777"}}, invalid, "rope_parameters");
  ExpectRefusal({{"rope_parameters", {7777}}}, invalid, "rope_parameters");
  ExpectRefusal({{"rope_parameters", {{"rope_theta", "many"}}}}, invalid, "rope_theta");
  ExpectRefusal({{"rope_theta", 7777}, {"rope_scaling", {{"factor", 4.0}}}}, invalid, "factor");
  // Beside a rope_theta an unknown key is worth a remark.
  EXPECT_THAT(MustRead({{"rope_theta", 7777}, {"rope_parameters", {{"note", "x"}}}}).remarks,
              Contains(HasSubstr("note")));
}

TEST(RopeConfig, ContradictionsAreRefused) {
  ExpectRefusal({{"rope_scaling", {{"rope_theta", 1e6}}},
                 {"rope_parameters", {{"rope_theta", 1e4}}}},
                absl::StatusCode::kInvalidArgument, "rope_parameters: rope_theta");
  // As transformers 5 writes it after it did not find the nested parameters.
  ExpectRefusal({{"rope_parameters",
                  {{"full_attention", {{"rope_theta", 1e6}}}, {"rope_theta", 1e4}}}},
                absl::StatusCode::kInvalidArgument, "full_attention");
  ExpectRefusal({{"rope_parameters",
                  {{"full_attention", {{"rope_theta", 1e6}}},
                   {"sliding_attention", {{"rope_theta", 1e4}}}}}},
                absl::StatusCode::kUnimplemented, "every layer type");
}

TEST(RopeConfig, KindsThatAreNotImplementedAreNamed) {
  for (const char* type : {"dynamic", "llama3", "longrope", "proportional", "su"}) {
    ExpectRefusal({{"rope_theta", 1e6}, {"rope_scaling", {{"type", type}, {"factor", 4.0}}}},
                  absl::StatusCode::kUnimplemented, type);
  }
  ExpectRefusal({{"rope_theta", 1e6}, {"rope_parameters", {{"mrope_section", {8, 12, 12}}}}},
                absl::StatusCode::kUnimplemented, "mrope_section");
}

TEST(RopeConfig, Yarn) {
  const RopeConfig rope = MustRead(
      {{"rope_theta", 1e6},
       {"rope_scaling",
        {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}}}});
  EXPECT_EQ(rope.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(rope.rope.factor, 4.0);
  EXPECT_EQ(rope.rope.original_positions, 32768);
  EXPECT_EQ(rope.rope.beta_fast, 32.0);
  EXPECT_EQ(rope.rope.beta_slow, 1.0);
  EXPECT_TRUE(rope.rope.truncate);
  EXPECT_NEAR(rope.rope.magnitude, 1.13862944, 1e-8);  // 1 + 0.1 ln 4
  EXPECT_EQ(rope.score_factor, 1.0);
  EXPECT_THAT(rope.remarks, IsEmpty());
}

TEST(RopeConfig, YarnInDeepSeeksWords) {
  const RopeConfig rope = MustRead(
      {{"rope_parameters",
        {{"rope_type", "yarn"}, {"rope_theta", 1e4}, {"factor", 40}, {"beta_fast", 16},
         {"beta_slow", 2}, {"mscale", 0.5}, {"mscale_all_dim", 1.0}, {"truncate", false},
         {"original_max_position_embeddings", 4096}}}});
  EXPECT_EQ(rope.rope.beta_fast, 16.0);
  EXPECT_EQ(rope.rope.beta_slow, 2.0);
  EXPECT_FALSE(rope.rope.truncate);
  const double half = 1 + 0.05 * std::log(40.0), whole = 1 + 0.1 * std::log(40.0);
  EXPECT_DOUBLE_EQ(rope.rope.magnitude, half / whole);
  EXPECT_DOUBLE_EQ(rope.score_factor, whole * whole);
  EXPECT_THAT(rope.remarks, Contains(HasSubstr("factor 40 is used")));  // 131072 is 32 * 4096
}

TEST(RopeConfig, YarnsOwnWordsAboutItsMagnitude) {
  const auto magnitude = [](const json& more) {
    json scaling = {{"type", "yarn"}, {"factor", 2.0}};
    scaling.update(more);
    return MustRead({{"rope_theta", 1e6}, {"rope_scaling", scaling}}).rope.magnitude;
  };
  EXPECT_EQ(magnitude({{"attention_factor", 1.5}}), 1.5);
  EXPECT_DOUBLE_EQ(magnitude({{"mscale", 1.0}}), 1 + 0.1 * std::log(2.0));
  EXPECT_EQ(magnitude({{"mscale", 1.0}, {"mscale_all_dim", 1.0}}), 1.0);
  EXPECT_DOUBLE_EQ(magnitude({{"mscale", 0}, {"mscale_all_dim", 0}}), 1 + 0.1 * std::log(2.0));
  // Without a factor it is the ratio of the lengths; without both nobody knows it.
  const json ratio = {{"rope_theta", 1e6},
                      {"rope_scaling", {{"type", "yarn"},
                                        {"original_max_position_embeddings", 16384}}}};
  EXPECT_EQ(MustRead(ratio).rope.factor, 8.0);
  ExpectRefusal({{"rope_theta", 1e6}, {"rope_scaling", {{"type", "yarn"}}}},
                absl::StatusCode::kInvalidArgument, "factor: missing");
}

}  // namespace
}  // namespace sheaf
