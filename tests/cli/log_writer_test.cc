#include "cli/process/log_writer.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string DroppedLine(uint64_t count) { return absl::StrFormat("dropped %d\n", count); }

// A pipe or a pair of sockets: ends()[0] is read, ends()[1] written.
class LogWriterTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    ASSERT_EQ(GetParam() ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends_) : pipe(ends_), 0);
  }
  void TearDown() override {
    for (int end : ends_) close(end);
  }

  // All that comes until `last` has come.
  std::string ReadUntil(const std::string& last) {
    std::string text;
    char piece[4096];
    while (text.find(last) == std::string::npos) {
      const ssize_t got = read(ends_[0], piece, sizeof(piece));
      if (got <= 0) return text + "<end>";
      text.append(piece, static_cast<size_t>(got));
    }
    return text;
  }

  int ends_[2] = {-1, -1};
};

TEST_P(LogWriterTest, LinesComeOutWholeAndInOrder) {
  LogWriter writer(ends_[1], 1 << 20, DroppedLine);
  std::string wanted;
  for (int i = 0; i < 100; ++i) {
    writer.Write(absl::StrFormat("line %d\n", i));
    wanted += absl::StrFormat("line %d\n", i);
  }
  EXPECT_EQ(ReadUntil("line 99\n"), wanted);
  EXPECT_TRUE(writer.Flush(seconds(10)));
  EXPECT_EQ(writer.dropped_lines(), 0u);
}

TEST_P(LogWriterTest, AReaderThatHangsStopsNobodyAndLearnsWhatItMissed) {
  const std::string line(1000, 'x');
  constexpr int kLines = 20000;
  const auto begin = std::chrono::steady_clock::now();
  LogWriter writer(ends_[1], 100'000, DroppedLine);
  for (int i = 0; i < kLines; ++i) writer.Write(absl::StrFormat("%s %d\n", line, i));
  EXPECT_FALSE(writer.Flush(milliseconds(50)));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(10));
  const uint64_t dropped = writer.dropped_lines();
  EXPECT_GT(dropped, 0u);
  writer.Write("the last one\n");
  const std::string text = ReadUntil("the last one\n");
  // Every line was written or counted; the newest are kept.
  uint64_t told = 0, lines = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    if (text.compare(at, 8, "dropped ") == 0) {
      told += std::stoull(text.substr(at + 8));
    } else {
      ++lines;
    }
  }
  EXPECT_EQ(told, writer.dropped_lines());
  EXPECT_EQ(told + lines, uint64_t{kLines} + 1);
  EXPECT_NE(text.find(absl::StrFormat(" %d\n", kLines - 1)), std::string::npos);
}

TEST_P(LogWriterTest, ItsEndIsBoundedThoughNobodyReads) {
  const auto begin = std::chrono::steady_clock::now();
  {
    LogWriter writer(ends_[1], 1 << 20, DroppedLine);
    for (int i = 0; i < 1000; ++i) writer.Write(std::string(1000, 'x') + "\n");
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
}

TEST_P(LogWriterTest, NothingFollowsTheLastLine) {
  LogWriter writer(ends_[1], 1 << 20, DroppedLine);
  writer.Write("before\n");
  writer.WriteLast("last\n");
  writer.Write("after\n");
  ASSERT_TRUE(writer.Flush(seconds(10)));
  ASSERT_EQ(write(ends_[1], "end\n", 4), 4);
  EXPECT_EQ(ReadUntil("end\n"), "before\nlast\nend\n");
}

TEST_P(LogWriterTest, TheModeOfTheDescriptorStaysAsItWas) {
  LogWriter writer(ends_[1], 1 << 20, DroppedLine);
  writer.Write("x\n");
  EXPECT_TRUE(writer.Flush(seconds(10)));
  EXPECT_EQ(fcntl(ends_[1], F_GETFL) & O_NONBLOCK, 0);
}

INSTANTIATE_TEST_SUITE_P(PipeAndSocket, LogWriterTest, ::testing::Bool());

}  // namespace
}  // namespace sheaf
