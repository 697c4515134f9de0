#include "exchange/link/reach_link_maker.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "base/status.h"

namespace sheaf {
namespace {

class ReachListener final : public LinkListener {
 public:
  explicit ReachListener(std::vector<std::unique_ptr<LinkListener>> listeners)
      : listeners_(std::move(listeners)) {}

  std::vector<std::string> addresses() const override {
    std::vector<std::string> all;
    for (const auto& listener : listeners_) {
      for (std::string& address : listener->addresses()) all.push_back(std::move(address));
    }
    return all;
  }

 private:
  const std::vector<std::unique_ptr<LinkListener>> listeners_;
};

class ReachConnector final : public LinkConnector {
 public:
  explicit ReachConnector(std::vector<std::unique_ptr<LinkConnector>> connectors)
      : connectors_(std::move(connectors)) {}

  absl::StatusOr<std::unique_ptr<FrameLink>> Connect(const std::vector<std::string>& addresses,
                                                     const LinkRequest& request, Bell& bell,
                                                     TimePoint deadline) override {
    std::vector<std::pair<LinkConnector*, std::string>> ways;
    for (const std::string& address : addresses) {
      if (LinkConnector* connector = Find(address)) ways.emplace_back(connector, address);
    }
    if (ways.empty()) return NothingInCommon(reach(), addresses);

    std::vector<std::string> failures;
    bool wrong_key = false;
    for (size_t i = 0; i < ways.size(); ++i) {
      const TimePoint now = std::chrono::steady_clock::now();
      const auto share = (deadline - now) / static_cast<int64_t>(ways.size() - i);
      absl::StatusOr<std::unique_ptr<FrameLink>> link =
          ways[i].first->Connect({ways[i].second}, request, bell, now + share);
      if (link.ok() || absl::IsFailedPrecondition(link.status())) return link;
      failures.emplace_back(link.status().message());
      wrong_key = wrong_key || absl::IsUnauthenticated(link.status());
    }
    const std::string all = absl::StrJoin(failures, "; ");
    return wrong_key ? absl::UnauthenticatedError(all) : absl::UnavailableError(all);
  }

  bool Reaches(const std::string& address) const override { return Find(address) != nullptr; }

  std::string reach() const override {
    std::vector<std::string> each;
    for (const auto& connector : connectors_) each.push_back(connector->reach());
    return absl::StrJoin(each, ", ");
  }

 private:
  LinkConnector* Find(const std::string& address) const {
    for (const auto& connector : connectors_) {
      if (connector->Reaches(address)) return connector.get();
    }
    return nullptr;
  }

  const std::vector<std::unique_ptr<LinkConnector>> connectors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinkListener>> ReachLinkMaker::Listen(
    const LinkListenerOptions& options, Bell& bell, OnLink on_link) {
  LinkListenerOptions shared = options;
  if (shared.live_links == nullptr) shared.live_links = std::make_shared<std::atomic<int>>(0);
  std::vector<std::unique_ptr<LinkListener>> listeners;
  for (const auto& maker : makers_) {
    SHEAF_ASSIGN_OR_RETURN(auto listener, maker->Listen(shared, bell, on_link));
    listeners.push_back(std::move(listener));
  }
  return std::make_unique<ReachListener>(std::move(listeners));
}

std::unique_ptr<LinkConnector> ReachLinkMaker::NewConnector() {
  std::vector<std::unique_ptr<LinkConnector>> connectors;
  for (const auto& maker : makers_) connectors.push_back(maker->NewConnector());
  return std::make_unique<ReachConnector>(std::move(connectors));
}

}  // namespace sheaf
