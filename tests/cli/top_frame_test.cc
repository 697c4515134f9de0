#include "cli/top/top_frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace sheaf {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

json Answer() {
  return json::parse(R"({
    "version": "0.1.0", "model": "nano", "uptime_seconds": 100.0, "state": "ready", "progress": 1.0,
    "load": {"running": 4, "queued": 2, "kv_blocks_used": 50, "kv_blocks_total": 200},
    "figures": {"sheaf_generated_tokens_total": 1000, "sheaf_prompt_tokens_total": 50,
                "sheaf_steps_total": 10, "sheaf_steps_given_up_total": 1,
                "sheaf_time_to_first_token_seconds": {"count": 3, "sum": 0.3}},
    "pool": {"experts_in": "workers", "complete": true, "text": "every expert has a holder",
             "coverage": [0, 10, 350, 0], "live_links": 1,
             "coordinator": {"replicas": 2.0, "routers": 1, "moving_bytes": 0, "lost": []},
             "workers": [
               {"id": 0, "name": "pid 7 on a", "pairs_total": 100,
                "link": {"live": true, "failures": 0, "late_answers": 3, "seconds_per_unit": 1.2e-5},
                "member": {"state": "ready", "held_experts": 180, "wanted_experts": 180,
                           "resident_bytes": 6400000, "left_bytes": 0}},
               {"id": 1, "name": "pid 8 on a", "pairs_total": 100,
                "link": {"live": false, "reason": "connection reset", "failures": 2},
                "member": {"state": "loading", "held_experts": 20, "wanted_experts": 180,
                           "resident_bytes": 800000, "left_bytes": 5600000}}]}})");
}

TEST(TopFrame, OneAnswerHasNoRates) {
  const std::string frame = TopFrame(Answer(), nullptr, 0, {});
  EXPECT_THAT(frame, HasSubstr("nano  ready  up 1 min 40 s  sheaf 0.1.0\n"));
  EXPECT_THAT(frame, HasSubstr("tokens/s -  prompt tokens/s -  running 4  waiting 2  KV "
                               "[###.......] 50 of 200 blocks\n"));
  EXPECT_THAT(
      frame,
      HasSubstr(
          "held by none 0, one 10, two 350, more 0; 1 live links; 2 holders wanted, 1 routers\n"));
  EXPECT_THAT(frame, HasSubstr("180/180"));
  EXPECT_THAT(frame, HasSubstr("0.8 MB +5.6 MB"));
  EXPECT_THAT(frame, HasSubstr("12 us"));
  EXPECT_THAT(frame, HasSubstr("connection reset"));
  EXPECT_THAT(frame, Not(HasSubstr("\x1b"))) << "no colours unless asked";
}

TEST(TopFrame, RatesAndMeansAreOfTheTimeBetween) {
  const json before = Answer();
  json now = Answer();
  now["uptime_seconds"] = 102.0;
  now["figures"]["sheaf_generated_tokens_total"] = 1250;
  now["figures"]["sheaf_time_to_first_token_seconds"] = {{"count", 5}, {"sum", 0.8}};
  now["pool"]["workers"][0]["pairs_total"] = 175;
  now["pool"]["workers"][1]["pairs_total"] = 125;
  const std::string frame = TopFrame(now, &before, 2, {});
  EXPECT_THAT(frame, HasSubstr("tokens/s 125.0  prompt tokens/s 0.0"));
  EXPECT_THAT(frame, HasSubstr("first token 250.0 ms  between tokens -"));
  EXPECT_THAT(frame, HasSubstr("[########..]  75.0 %"));
  EXPECT_THAT(frame, HasSubstr("[###.......]  25.0 %"));
}

TEST(TopFrame, ARouterStartedAnewHasNoNegativeRates) {
  const json before = Answer();
  json now = Answer();
  now["uptime_seconds"] = 1.0;
  now["figures"]["sheaf_generated_tokens_total"] = 3;
  EXPECT_THAT(TopFrame(now, &before, 1, {}), HasSubstr("tokens/s -"));
}

TEST(TopFrame, LossesNewestFirst) {
  json now = Answer();
  now["pool"]["coordinator"]["lost"] = json::parse(
      R"([{"id": 1, "pid": 5, "host": "a", "reason": "lease", "ms_ago": 7300000},
          {"id": 2, "pid": 6, "host": "b", "reason": "closed", "ms_ago": 4000}])");
  const std::string frame = TopFrame(now, nullptr, 0, {});
  const size_t newest = frame.find("lost 4 s ago: worker 2 (6 on b): closed");
  const size_t oldest = frame.find("lost 2 h 1 min ago: worker 1 (5 on a): lease");
  ASSERT_NE(newest, std::string::npos) << frame;
  ASSERT_NE(oldest, std::string::npos) << frame;
  EXPECT_LT(newest, oldest);
}

TEST(TopFrame, FitsTheTerminal) {
  const std::string frame =
      TopFrame(Answer(), nullptr, 0, {.columns = 40, .rows = 6, .colour = false});
  std::istringstream lines(frame);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_LE(line.size(), 40u) << line;
  EXPECT_EQ(count, 6);
  EXPECT_THAT(frame, HasSubstr("more lines"));
}

TEST(TopFrame, ColoursWhatIsDown) {
  const std::string frame =
      TopFrame(Answer(), nullptr, 0, {.columns = 0, .rows = 0, .colour = true});
  EXPECT_THAT(frame, HasSubstr("\x1b[1;31m 1  loading"));
}

TEST(TopFrame, TextsCannotControlTheTerminal) {
  json now = Answer();
  now["pool"]["workers"][0]["name"] = "\x1b]0;title\x07";
  now["model"] = "a\x1b[2Jb";
  const std::string frame = TopFrame(now, nullptr, 0, {});
  EXPECT_THAT(frame, Not(HasSubstr("\x1b")));
  EXPECT_THAT(frame, Not(HasSubstr("\x07")));
}

TEST(TopFrame, AnswersThatLackFieldsAreShownAllTheSame) {
  for (const char* text :
       {"{}", R"({"pool": null})", R"({"pool": {"experts_in": "router"}})",
        R"({"pool": {"experts_in": "workers", "workers": [{}], "coordinator": null}})",
        R"({"pool": {"workers": 3, "coverage": "x"}, "load": []})"}) {
    EXPECT_FALSE(TopFrame(json::parse(text), nullptr, 0, {}).empty()) << text;
  }
}

}  // namespace
}  // namespace sheaf
