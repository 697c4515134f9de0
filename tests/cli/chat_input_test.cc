// What a user writes to `sheaf chat`: lines of a descriptor, and what each means.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "cli/chat/chat_line.h"
#include "cli/chat/interrupts.h"
#include "cli/chat/line_reader.h"

namespace sheaf {
namespace {

using Event = LineReader::Event;
using Kind = ChatLine::Kind;

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    out = UniqueFd(ends[0]);
    in = UniqueFd(ends[1]);
  }
  void Write(const std::string& text) {
    EXPECT_EQ(write(in.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  UniqueFd out, in;
};

std::vector<std::string> LinesOf(const std::string& text) {
  Pipe pipe;
  pipe.Write(text);
  pipe.in.reset();
  LineReader reader(pipe.out.get(), nullptr);
  std::vector<std::string> lines;
  std::string line;
  while (true) {
    const auto event = reader.Next(line);
    EXPECT_TRUE(event.ok()) << event.status();
    if (!event.ok() || *event != Event::kLine) return lines;
    lines.push_back(line);
  }
}

TEST(LineReader, GivesEveryLineAndTheLastWithoutNewline) {
  EXPECT_THAT(LinesOf("a\n\nbc\r\nd"), testing::ElementsAre("a", "", "bc", "d"));
  EXPECT_THAT(LinesOf("a\n"), testing::ElementsAre("a"));
  EXPECT_THAT(LinesOf(""), testing::IsEmpty());
}

TEST(LineReader, RefusesALineWithoutEnd) {
  Pipe pipe;
  std::thread writer([&] {
    pipe.Write(std::string(LineReader::kMaxLineBytes + 5000, 'x'));
    pipe.in.reset();
  });
  LineReader reader(pipe.out.get(), nullptr);
  std::string line;
  EXPECT_TRUE(absl::IsResourceExhausted(reader.Next(line).status()));
  // The rest, so that the writer ends.
  char bytes[8192];
  while (read(pipe.out.get(), bytes, sizeof(bytes)) > 0) {
  }
  writer.join();
}

TEST(LineReader, AnInterruptForgetsTheLineSoFar) {
  Pipe pipe;
  Interrupts interrupts;
  LineReader reader(pipe.out.get(), &interrupts);
  std::string line;
  pthread_kill(pthread_self(), SIGINT);
  EXPECT_EQ(*reader.Next(line), Event::kInterrupt);
  pipe.Write("next\n");
  EXPECT_EQ(*reader.Next(line), Event::kLine);
  EXPECT_EQ(line, "next");
}

TEST(Interrupts, AWatchTellsAtMostOnceAndOthersNever) {
  Interrupts interrupts;
  int told = 0;
  {
    Interrupts::Watch watch(interrupts, [&] { ++told; });
  }
  EXPECT_EQ(told, 0);
  kill(getpid(), SIGINT);
  {
    Interrupts::Watch watch(interrupts, [&] { ++told; });
  }
  EXPECT_EQ(told, 1);
  EXPECT_FALSE(interrupts.Take());
}

TEST(ChatLine, TellsCommandsFromText) {
  EXPECT_EQ(ParseChatLine(" \t ").kind, Kind::kNothing);
  EXPECT_EQ(ParseChatLine("/reset").kind, Kind::kReset);
  EXPECT_EQ(ParseChatLine(" /quit ").kind, Kind::kQuit);
  EXPECT_EQ(ParseChatLine("/help").kind, Kind::kHelp);
  const ChatLine system = ParseChatLine("/system  Be brief.\nAnd kind. ");
  EXPECT_EQ(system.kind, Kind::kSystem);
  EXPECT_EQ(system.text, "Be brief.\nAnd kind.");
  EXPECT_EQ(ParseChatLine("/system").kind, Kind::kSystem);
  EXPECT_EQ(ParseChatLine("/systematic").kind, Kind::kUnknown);
  EXPECT_EQ(ParseChatLine("/reset now").kind, Kind::kUnknown);
  const ChatLine slash = ParseChatLine("//reset");
  EXPECT_EQ(slash.kind, Kind::kSay);
  EXPECT_EQ(slash.text, "/reset");
  const ChatLine text = ParseChatLine("  what is a/b? ");
  EXPECT_EQ(text.kind, Kind::kSay);
  EXPECT_EQ(text.text, "  what is a/b? ") << "a text is said as it was written";
}

TEST(ChatLine, ABackslashAtTheEndGoesOn) {
  EXPECT_EQ(ContinuedLine("a \\"), "a ");
  EXPECT_EQ(ContinuedLine("\\"), "");
  EXPECT_EQ(ContinuedLine("a \\ b"), std::nullopt);
  EXPECT_EQ(ContinuedLine(""), std::nullopt);
}

}  // namespace
}  // namespace sheaf
