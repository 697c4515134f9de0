// NCCL as a library that is found at run time, over one of the tests' own; and the real one, where
// SHEAF_NCCL_LIBRARY or the loader knows one.

#include "exchange/nccl/nccl_library.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "exchange/nccl/nccl_communicator.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using std::chrono::milliseconds;

constexpr const char* kFake = SHEAF_FAKE_NCCL;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class FakeNccl : public ::testing::Test {
 protected:
  ~FakeNccl() override {
    for (const char* name :
         {"SHEAF_FAKE_NCCL_VERSION", "SHEAF_FAKE_NCCL_INIT", "SHEAF_FAKE_NCCL_ID"})
      unsetenv(name);
  }

  static std::unique_ptr<NcclLibrary> Load() {
    auto library = NcclLibrary::Load(kFake);
    EXPECT_TRUE(library.ok()) << library.status();
    return library.ok() ? *std::move(library) : nullptr;
  }

  static int live() {
    void* const library = dlopen(kFake, RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<int (*)()>(dlsym(library, "fake_nccl_live_communicators"))();
  }
};

TEST(NcclVersion, IsReadInBothForms) {
  EXPECT_EQ(NcclVersion::FromCode(22703), (NcclVersion{2, 27, 3}));
  EXPECT_EQ(NcclVersion::FromCode(23203).Text(), "2.32.3");
  EXPECT_EQ(NcclVersion::FromCode(2804).Text(), "2.8.4");
  EXPECT_LT((NcclVersion{2, 9, 8}), (NcclVersion{2, 27, 0}));
}

TEST_F(FakeNccl, HasWhatItsVersionHas) {
  EXPECT_THAT(Load()->features(), ElementsAre("abort", "shrink", "revoke", "grow", "suspend",
                                              "several ranks on one GPU"));
  const std::pair<const char*, int> many[] = {{"22703", 2}, {"22806", 2}, {"22807", 3},
                                              {"22902", 4}, {"22907", 5}, {"23002", 5},
                                              {"23003", 6}};
  for (const auto& [code, features] : many) {
    setenv("SHEAF_FAKE_NCCL_VERSION", code, 1);
    EXPECT_EQ(Load()->features().size(), static_cast<size_t>(features)) << code;
  }
}

TEST_F(FakeNccl, HasNoFeatureThatItDoesNotExport) {
  const auto library = NcclLibrary::Load(SHEAF_BARE_FAKE_NCCL);
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_THAT((*library)->features(), ElementsAre("abort", "several ranks on one GPU"));
}

TEST_F(FakeNccl, AnOldOneIsRefused) {
  setenv("SHEAF_FAKE_NCCL_VERSION", "22702", 1);
  const absl::Status status = NcclLibrary::Load(kFake).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), EndsWith(": NCCL is too old: wanted 2.27.3 or newer, got 2.27.2"));
  EXPECT_THAT(Message(status), StartsWith(kFake));
}

TEST(NcclLibrary, WhatIsNotThereIsNamed) {
  const absl::Status status = NcclLibrary::Load("/nowhere/libnccl.so.2").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), StartsWith("/nowhere/libnccl.so.2: cannot open shared object file"));
}

TEST(NcclLibrary, AnotherLibraryIsRefused) {
  const absl::Status status = NcclLibrary::Load("libm.so.6").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message(status), "libm.so.6: it is no NCCL: wanted the function ncclGetVersion");
}

TEST_F(FakeNccl, EachIdIsFresh) {
  const auto library = Load();
  const auto one = library->NewUniqueId();
  const auto other = library->NewUniqueId();
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_NE(std::memcmp(one->bytes, other->bytes, sizeof(one->bytes)), 0);
  setenv("SHEAF_FAKE_NCCL_ID", "refused", 1);
  EXPECT_EQ(Message(library->NewUniqueId().status()),
            "NCCL: ncclGetUniqueId: unhandled system error: Bootstrap : no socket interface found "
            "(2)");
}

TEST_F(FakeNccl, ACommunicatorIsMadeAndAborted) {
  const auto library = Load();
  {
    const auto made =
        NcclCommunicator::Create(*library, 2, 1, *library->NewUniqueId(), milliseconds(60000));
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(live(), 1);
  }
  EXPECT_EQ(live(), 0);
}

TEST_F(FakeNccl, WhatItIsRefusedForIsSaid) {
  const auto library = Load();
  const NcclUniqueId id = *library->NewUniqueId();
  setenv("SHEAF_FAKE_NCCL_INIT", "refused", 1);
  absl::Status status = NcclCommunicator::Create(*library, 1, 0, id, milliseconds(60000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Message(status),
            "NCCL: ncclCommInitRankConfig: unhandled cuda error: Cuda failure 'CUDA driver version "
            "is insufficient' (1)");
  status = NcclCommunicator::Create(*library, 1, 1, id, milliseconds(60000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << "rank 1 of 1";
  setenv("SHEAF_FAKE_NCCL_INIT", "lost", 1);
  status = NcclCommunicator::Create(*library, 2, 0, id, milliseconds(60000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("Connection closed by remote peer (6)"));
  EXPECT_EQ(live(), 0);
}

TEST_F(FakeNccl, ARankThatDoesNotComeIsWaitedForNoLongerThanAgreed) {
  const auto library = Load();
  setenv("SHEAF_FAKE_NCCL_INIT", "never", 1);
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status =
      NcclCommunicator::Create(*library, 2, 0, *library->NewUniqueId(), milliseconds(50)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Message(status), "NCCL: ncclCommInitRankConfig: not done within 50 ms, aborted");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(50));
  EXPECT_EQ(live(), 0);
}

TEST(RealNccl, LoadsMakesIdsAndSaysWhatIsMissing) {
  const char* const told = std::getenv("SHEAF_NCCL_LIBRARY");
  const auto library = NcclLibrary::Load(told == nullptr ? "libnccl.so.2" : told);
  if (told == nullptr && absl::IsNotFound(library.status())) {
    GTEST_SKIP() << "no NCCL here: " << library.status().message()
                 << "; SHEAF_NCCL_LIBRARY may name one";
  }
  ASSERT_TRUE(library.ok()) << library.status();
  std::printf("NCCL %s\n", (*library)->version().Text().c_str());
  EXPECT_THAT((*library)->features(), ::testing::IsSupersetOf({"abort", "shrink"}));
  const auto id = (*library)->NewUniqueId();
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_NE(std::memcmp(id->bytes, (*library)->NewUniqueId()->bytes, sizeof(id->bytes)), 0);
  const absl::Status made =
      NcclCommunicator::Create(**library, 1, 0, *id, std::chrono::seconds(60)).status();
  std::printf("a communicator: %s\n", made.ok() ? "made" : Message(made).c_str());
  if (!made.ok()) {
    EXPECT_EQ(made.code(), absl::StatusCode::kUnavailable) << made;
    EXPECT_THAT(Message(made), HasSubstr("Cuda failure")) << "a machine without a GPU";
  }
}

}  // namespace
}  // namespace sheaf
