// Whose certificate is accepted, what files are taken, and how refusals are told.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/tls/allowed_names.h"
#include "network/tls/client_hello.h"
#include "network/tls/first_bytes.h"
#include "network/tls/peer_certificate.h"
#include "network/tls/tls_identity.h"
#include "network/tls/tls_material.h"
#include "network/tls/tls_report.h"
#include "prometheus/text_serializer.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr int64_t kNow = 1'800'000'000;  // some day of 2027
constexpr const char* kWorker = "spiffe://example.org/ns/a/sa/sheaf-worker";

using Key = std::shared_ptr<EVP_PKEY>;
using Certificate = std::shared_ptr<X509>;

Key NewKey() { return {EVP_EC_gen("P-256"), &EVP_PKEY_free}; }

struct Issue {
  std::string names;  // as OpenSSL's configuration has them: "URI:...,DNS:..."
  int64_t from = kNow - 1000;
  int64_t until = kNow + 1000;
  const char* usage = nullptr;  // "serverAuth"
};

void AddExtension(X509& certificate, int nid, const std::string& value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
  ASSERT_NE(extension, nullptr) << value;
  X509_add_ext(&certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// A null issuer: a CA that signs itself.
Certificate Make(const Key& key, const Issue& issue, X509* issuer, const Key& issuer_key) {
  Certificate made(X509_new(), &X509_free);
  static int64_t serial = 0;
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(made.get()), ++serial);
  ASN1_TIME_set(X509_getm_notBefore(made.get()), issue.from);
  ASN1_TIME_set(X509_getm_notAfter(made.get()), issue.until);
  X509_set_pubkey(made.get(), key.get());
  X509_NAME* name = X509_get_subject_name(made.get());
  // The common name is a friend's: it must count for nothing.
  const char* text = issuer == nullptr ? "test CA" : "sheaf-worker";
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(text),
                             -1, -1, 0);
  X509_set_issuer_name(made.get(), issuer == nullptr ? name : X509_get_subject_name(issuer));
  AddExtension(*made, NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
  if (!issue.names.empty()) AddExtension(*made, NID_subject_alt_name, issue.names);
  if (issue.usage != nullptr) AddExtension(*made, NID_ext_key_usage, issue.usage);
  X509_sign(made.get(), issuer_key.get(), EVP_sha256());
  return made;
}

template <typename Write>
std::string Pem(Write&& write) {
  BIO* bio = BIO_new(BIO_s_mem());
  write(bio);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}
std::string PemOf(const Certificate& certificate) {
  return Pem([&](BIO* bio) { PEM_write_bio_X509(bio, certificate.get()); });
}
std::string PemOf(const Key& key) {
  return Pem([&](BIO* bio) {
    PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
}

class TlsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("tls-" + std::to_string(getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    files_ = {Write("cert.pem", PemOf(Leaf({.names = std::string("URI:") + kWorker}))),
              Write("key.pem", PemOf(key_)), Write("ca.pem", PemOf(ca_))};
    auto read = ReadTlsMaterial(files_, kNow);
    ASSERT_TRUE(read.ok()) << read.status();
    material_ = *read;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  Certificate Leaf(const Issue& issue) { return Make(key_, issue, ca_.get(), ca_key_); }

  // The cause, or "" for one that is welcome.
  std::string Refused(const Certificate& leaf, std::vector<std::string> allowed = {kWorker},
                      PeerUse use = PeerUse::kClient) {
    const std::string pem = leaf ? PemOf(leaf) : "";
    const auto refusal =
        RefusePeer({pem, ""}, *material_, {use, *AllowedNames::Parse(allowed), {}}, kNow);
    return refusal ? NameOf(refusal->cause) : "";
  }
  std::string Refused(const Issue& issue, std::vector<std::string> allowed = {kWorker}) {
    return Refused(Leaf(issue), std::move(allowed));
  }

  std::filesystem::path folder_;
  Key ca_key_ = NewKey();
  Certificate ca_ = Make(ca_key_, {.names = "", .until = kNow + 100000}, nullptr, ca_key_);
  Key key_ = NewKey();
  TlsFiles files_;
  std::shared_ptr<const TlsMaterial> material_;
};

TEST_F(TlsTest, OneOfTheNamesMustBeOnTheList) {
  const std::string uri = std::string("URI:") + kWorker;
  EXPECT_EQ(Refused({.names = uri}), "");
  EXPECT_EQ(Refused({.names = "DNS:other.example," + uri}), "");
  EXPECT_EQ(Refused({.names = "DNS:Worker.Example"}, {"worker.example"}), "");
  EXPECT_EQ(Refused({.names = "DNS:anything"}, {}), "");  // no list
  EXPECT_EQ(Refused({.names = uri + "x"}), "wrong_name");
  EXPECT_EQ(Refused({.names = uri + "/"}), "wrong_name");
  EXPECT_EQ(Refused({.names = "URI:spiffe://example.org/ns/a/sa/Sheaf-worker"}), "wrong_name");
  EXPECT_EQ(Refused({.names = "DNS:*.example"}, {"worker.example"}), "wrong_name");
  EXPECT_EQ(Refused({.names = "DNS:sub.worker.example"}, {"worker.example"}), "wrong_name");
  EXPECT_EQ(Refused({.names = "email:sheaf-worker@x"}, {"sheaf-worker@x"}), "wrong_name");
  // Neither the common name nor a name of the other kind.
  EXPECT_EQ(Refused(Leaf(Issue()), {"sheaf-worker"}), "wrong_name");
}

TEST_F(TlsTest, AServerHasTheNameThatWasDialled) {
  const auto refused = [&](const std::string& names, const std::string& host) {
    const std::string pem = PemOf(Leaf({.names = names}));
    const auto refusal = RefusePeer({pem, ""}, *material_, {PeerUse::kServer, {}, host}, kNow);
    return std::string(refusal ? NameOf(refusal->cause) : "");
  };
  EXPECT_EQ(refused("DNS:router.example,IP:10.0.0.1,IP:fd00::1", "Router.Example"), "");
  EXPECT_EQ(refused("DNS:router.example,IP:10.0.0.1,IP:fd00::1", "10.0.0.1"), "");
  EXPECT_EQ(refused("DNS:router.example,IP:10.0.0.1,IP:fd00::1", "fd00:0::1"), "");
  EXPECT_EQ(refused("DNS:*.example.org", "router.example.org"), "");
  EXPECT_EQ(refused(std::string("URI:") + kWorker, kWorker), "");
  EXPECT_EQ(refused("DNS:*.example.org", "a.router.example.org"), "wrong_name");
  EXPECT_EQ(refused("DNS:router.example", "10.0.0.1"), "wrong_name");
  EXPECT_EQ(refused("IP:10.0.0.1", "10.0.0.2"), "wrong_name");
  EXPECT_EQ(refused(std::string("URI:") + kWorker, std::string(kWorker) + "x"), "wrong_name");
  EXPECT_EQ(refused("DNS:other.example", "sheaf-worker"), "wrong_name");  // its common name
}

TEST_F(TlsTest, ARoleWantsItsNames) {
  const auto allowed =
      *AllowedNames::Parse({"worker=spiffe://x/w", "router=spiffe://x/r", "admin=ops.example",
                            "router=both.example", "worker=both.example", "spiffe://x/any"});
  const auto may = [&](const AllowedNames& list, const std::string& name) {
    std::string roles;
    for (const PeerRole role :
         {PeerRole::kWorker, PeerRole::kRouter, PeerRole::kCoordinator, PeerRole::kAdmin}) {
      if (list.May(role, {"other.example", name})) roles += NameOf(role)[0];
    }
    return roles;
  };
  EXPECT_EQ(may(allowed, "spiffe://x/w"), "w");
  EXPECT_EQ(may(allowed, "spiffe://x/r"), "rc");  // has the coordinator inside
  EXPECT_EQ(may(allowed, "both.example"), "wrc");
  EXPECT_EQ(may(allowed, "ops.example"), "a");
  EXPECT_EQ(may(allowed, "spiffe://x/any"), "wrca");
  EXPECT_EQ(may(allowed, "spiffe://x/W"), "");
  EXPECT_EQ(may(*AllowedNames::Parse({"router=r.example", "coordinator=c.example"}), "r.example"),
            "r");
  EXPECT_EQ(may(AllowedNames(), "r.example"), "");
  for (const char* wrong : {"boss=x", "worker=", "", "=x", "a=b=c", "worker=*.x", "Worker=x"}) {
    EXPECT_FALSE(AllowedNames::Parse({wrong}).ok()) << wrong;
  }
  // A worker is no coordinator, whoever it says it is.
  const std::string names = std::string("URI:") + kWorker;
  EXPECT_EQ(Refused(Leaf({.names = names}), {std::string("worker=") + kWorker}, PeerUse::kServer),
            "wrong_role");
  EXPECT_EQ(Refused(Leaf({.names = names}), {std::string("worker=") + kWorker}), "");
  EXPECT_EQ(Refused(Leaf({.names = names}), {std::string("router=") + kWorker}, PeerUse::kServer),
            "");
}

TEST_F(TlsTest, ForgedExpiredAndMissingOnesAreRefused) {
  const std::string names = std::string("URI:") + kWorker;
  EXPECT_EQ(Refused(Certificate()), "no_certificate");
  EXPECT_EQ(Refused({.names = names, .until = kNow - 1}), "expired");
  EXPECT_EQ(Refused({.names = names, .from = kNow + 10}), "expired");
  const Key stranger = NewKey();
  EXPECT_EQ(Refused(Make(key_, {.names = names}, ca_.get(), stranger)), "wrong_ca");
  const Certificate other_ca = Make(stranger, Issue(), nullptr, stranger);  // of the same name
  EXPECT_EQ(Refused(Make(key_, {.names = names}, other_ca.get(), stranger)), "wrong_ca");
  EXPECT_EQ(Refused(Make(key_, {.names = names}, nullptr, key_)), "wrong_ca");  // by itself
  // A leaf that signs.
  const Certificate leaf = Leaf({.names = names});
  EXPECT_NE(Refused(Make(stranger, {.names = names}, leaf.get(), key_)), "");
  EXPECT_EQ(Refused(Leaf({.names = names, .usage = "serverAuth"})), "bad_certificate");
  EXPECT_EQ(Refused(Leaf({.names = names, .usage = "serverAuth"}), {kWorker}, PeerUse::kServer),
            "");
  const auto text = RefusePeer({"not PEM", ""}, *material_, {}, kNow);
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(text->cause, TlsRefusal::kBadCertificate);
}

TEST_F(TlsTest, FilesMustFit) {
  const auto says = [&](const TlsFiles& files) {
    return std::string(ReadTlsMaterial(files, kNow).status().message());
  };
  EXPECT_EQ(material_->expires_unix_seconds, kNow + 1000);
  EXPECT_THAT(says({files_.cert, Write("other.key", PemOf(NewKey())), files_.ca}),
              HasSubstr("wanted the key of the certificate"));
  EXPECT_THAT(says({files_.cert, files_.cert, ""}), HasSubstr("cert.pem: wanted a private key"));
  EXPECT_THAT(says({files_.key, files_.key, ""}), HasSubstr("key.pem: wanted a certificate"));
  EXPECT_THAT(says({files_.cert, files_.key, files_.key}), HasSubstr("wanted a CA certificate"));
  EXPECT_THAT(says({files_.cert, files_.key, "/nowhere"}), HasSubstr("/nowhere: cannot be read"));
  EXPECT_THAT(std::string(ReadTlsMaterial(files_, kNow + 1000).status().message()),
              HasSubstr("has expired"));
}

TEST(TlsReport, CountsAllAndTellsFew) {
  ManualClock clock;
  prometheus::Registry registry;
  TlsReport report(&registry, clock);
  report.CertificateIs("clients", kNow);
  testing::internal::CaptureStdout();
  for (int i = 0; i < 100; ++i) {
    report.Refused("clients", TlsRefusal::kPlaintext, "10.0.0.1", "plain\ntext");
  }
  clock.Advance(TlsReport::kQuiet);
  report.Refused("clients", TlsRefusal::kPlaintext, "10.0.0.1", "plaintext");
  for (int i = 0; i < 1000; ++i) {
    report.Refused("clients", TlsRefusal::kPlaintext, std::to_string(i), "plaintext");
  }
  const std::string log = testing::internal::GetCapturedStdout();
  EXPECT_THAT(log, HasSubstr("99 more"));
  EXPECT_LE(std::count(log.begin(), log.end(), '\n'), 2 + static_cast<long>(TlsReport::kMaxPeers));
  const std::string figures = prometheus::TextSerializer().Serialize(registry.Collect());
  EXPECT_THAT(figures, HasSubstr("cause=\"plaintext\",listener=\"clients\"} 1101"));
  EXPECT_THAT(figures, HasSubstr("cause=\"wrong_ca\",listener=\"clients\"} 0"));
}

// A hello of a client that offers these versions; none: without the extension.
std::string Hello(const std::vector<uint16_t>& versions) {
  const auto number = [](size_t value, size_t width) {
    std::string text;
    for (size_t i = width; i-- > 0;) text += static_cast<char>(value >> (8 * i));
    return text;
  };
  std::string list;
  for (const uint16_t version : versions) list += number(version, 2);
  std::string extensions = number(0, 2) + number(3, 2) + "abc";  // some other one
  if (!list.empty()) {
    extensions += number(43, 2) + number(list.size() + 1, 2) + number(list.size(), 1) + list;
  }
  const std::string body = number(0x0303, 2) + std::string(32, 'r') + number(0, 1) + number(2, 2) +
                           number(0x1301, 2) + number(1, 1) + number(0, 1) +
                           number(extensions.size(), 2) + extensions;
  const std::string message = number(1, 1) + number(body.size(), 3) + body;
  return number(0x16, 1) + number(0x0301, 2) + number(message.size(), 2) + message;
}

ClientHello Read(const std::string& bytes) {
  return ReadClientHello({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

TEST(ClientHello, TellsTheVersions) {
  const std::string newest = Hello({0x0a0a, 0x0304, 0x0303});
  EXPECT_EQ(Read(newest), ClientHello::kNewest);
  EXPECT_EQ(Read(newest + "more"), ClientHello::kNewest);
  EXPECT_EQ(Read(Hello({0x0303, 0x0302})), ClientHello::kOld);
  EXPECT_EQ(Read(Hello({})), ClientHello::kOld);
  EXPECT_EQ(Read("GET / HTTP/1.1"), ClientHello::kNoTls);
  EXPECT_EQ(Read("PRI * HTTP/2.0"), ClientHello::kNoTls);
  for (size_t size = 0; size < newest.size(); ++size) {
    EXPECT_EQ(Read(newest.substr(0, size)), ClientHello::kUnfinished) << size;
  }
  // In two records.
  const std::string message = newest.substr(5);
  const std::string head("\x16\x03\x01\x00", 4);
  EXPECT_EQ(Read(head + '\x09' + message.substr(0, 9) + head +
                 static_cast<char>(message.size() - 9) + message.substr(9)),
            ClientHello::kNewest);
  // Lengths that lie, of whatever field: never more than what is there is read.
  for (size_t at = 5; at < newest.size(); ++at) {
    std::string broken = newest;
    broken[at] = '\xff';
    (void)Read(broken);
  }
  EXPECT_EQ(Read(head.substr(0, 3) + "\xff\xff\x01" + std::string(kMaxClientHelloBytes, 'x')),
            ClientHello::kNoTls);
}

TEST(FirstBytes, TellsAHandshakeFromTheRestAndLeavesTheBytes) {
  struct Case {
    std::string bytes;
    ClientHello hello;
  };
  const Case cases[] = {{Hello({0x0304}), ClientHello::kNewest},
                        {Hello({0x0303}), ClientHello::kOld},
                        {"PRI", ClientHello::kNoTls}};
  for (const Case& one : cases) {
    absl::Notification told;
    int handed = -1;
    ClientHello hello = ClientHello::kUnfinished;
    FirstBytes watch([&](int socket, ClientHello said) {
      handed = socket;
      hello = said;
      told.Notify();
    });
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    watch.Add(pair[0]);
    const size_t half = one.bytes.size() / 2;
    const auto size = static_cast<ssize_t>(one.bytes.size());
    ASSERT_EQ(write(pair[1], one.bytes.data(), half), static_cast<ssize_t>(half));
    ASSERT_EQ(write(pair[1], one.bytes.data() + half, one.bytes.size() - half),
              size - static_cast<ssize_t>(half));
    ASSERT_TRUE(told.WaitForNotificationWithTimeout(absl::Seconds(20)));
    EXPECT_EQ(handed, pair[0]);
    EXPECT_EQ(hello, one.hello);
    std::string left(one.bytes.size(), '\0');
    EXPECT_EQ(read(pair[0], left.data(), left.size()), size);
    EXPECT_EQ(left, one.bytes);
    close(pair[0]);
    close(pair[1]);
  }
  // One that leaves without a word, or in the middle of one, is closed, and told to nobody.
  FirstBytes watch([](int, ClientHello) { ADD_FAILURE() << "it had not said enough"; });
  for (const size_t said : {0, 40}) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    watch.Add(pair[0]);
    ASSERT_EQ(write(pair[1], cases[0].bytes.data(), said), static_cast<ssize_t>(said));
    ASSERT_EQ(shutdown(pair[1], SHUT_WR), 0);
    pollfd closed{pair[1], POLLIN, 0};
    ASSERT_EQ(poll(&closed, 1, 20'000), 1);
    char byte = 0;
    // A reset where what was said was left unread.
    EXPECT_TRUE(read(pair[1], &byte, 1) == 0 || errno == ECONNRESET);
    close(pair[1]);
  }
  watch.Stop();
}

}  // namespace
}  // namespace sheaf
