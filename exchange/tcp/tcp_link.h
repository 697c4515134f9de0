#pragma once
// TcpLink: a FrameLink over a TcpChannel.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exchange/link/frame_link.h"
#include "exchange/link/hello_acceptor.h"
#include "exchange/tcp/tcp_channel.h"

namespace sheaf {

class TcpLink final : public FrameLink {
 public:
  // Of a socket whose hello is over.
  static absl::StatusOr<std::unique_ptr<TcpLink>> Open(std::shared_ptr<IoLoop> loop,
                                                       UniqueFd socket, LinkId id,
                                                       const TcpLimits& limits,
                                                       std::optional<TcpMacs> macs, Bell& bell,
                                                       LinkPlace place);
  ~TcpLink() override;

  absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes) override;
  absl::Status Send(FrameHeader header) override;
  absl::StatusOr<std::optional<ArrivedFrame>> Next() override;
  void Release() override;
  LinkId id() const override { return id_; }
  std::string path() const override { return "tcp " + channel_.peer(); }

 private:
  TcpLink(UniqueFd socket, LinkId id, const TcpLimits& limits, std::optional<TcpMacs> macs,
          Bell& bell, LinkPlace place)
      : place_(std::move(place)),
        id_(id),
        channel_(std::move(socket), id, limits, std::move(macs), bell) {}

  const LinkPlace place_;
  const LinkId id_;
  TcpChannel channel_;
  ByteBuffer reserved_;
  std::vector<ByteBuffer> taken_;
};

}  // namespace sheaf
