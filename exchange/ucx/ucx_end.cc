#include "exchange/ucx/ucx_end.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr unsigned kMessageId = 1;
constexpr size_t kMaxAddressBytes = 64 * 1024;
// Far above any batch; a peer that claims more is not believed.
constexpr uint64_t kMaxPayloadBytes = uint64_t{4} << 30;

constexpr std::chrono::milliseconds kPullPatience{500};

timespec Until(TimePoint deadline, TimePoint now) {
  const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline - now);
  return {static_cast<time_t>(left.count() / 1'000'000'000),
          static_cast<long>(left.count() % 1'000'000'000)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<UcxEnd>> UcxEnd::Create(
    std::shared_ptr<UcxTransport::Context> context, FrameSink& sink) {
  std::unique_ptr<UcxEnd> end(new UcxEnd(std::move(context), sink));
  SHEAF_RETURN_IF_ERROR(end->Open());
  return end;
}

UcxEnd::UcxEnd(std::shared_ptr<UcxTransport::Context> context, FrameSink& sink)
    : context_(std::move(context)), sink_(sink) {}

UcxEnd::~UcxEnd() {
  Close();
  if (abort_fd_ >= 0) close(abort_fd_);
}

absl::Status UcxEnd::Open() {
  abort_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (abort_fd_ < 0) return absl::InternalError(absl::StrCat("eventfd: ", std::strerror(errno)));

  ucp_worker_params_t parameters{};
  parameters.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  parameters.thread_mode = UCS_THREAD_MODE_SERIALIZED;  // links change hands
  ucs_status_t status = ucp_worker_create(context_->ucp, &parameters, &worker_);
  if (status != UCS_OK) return UcxError("ucp_worker_create", status);

  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kMessageId;
  handler.cb = &UcxEnd::OnMessage;
  handler.arg = this;
  status = ucp_worker_set_am_recv_handler(worker_, &handler);
  if (status != UCS_OK) return UcxError("ucp_worker_set_am_recv_handler", status);

  status = ucp_worker_get_efd(worker_, &worker_fd_);
  if (status != UCS_OK) return UcxError("ucp_worker_get_efd", status);

  ucp_address_t* address = nullptr;
  size_t bytes = 0;
  status = ucp_worker_get_address(worker_, &address, &bytes);
  if (status != UCS_OK) return UcxError("ucp_worker_get_address", status);
  address_.assign(reinterpret_cast<const char*>(address), bytes);
  ucp_worker_release_address(worker_, address);
  return absl::OkStatus();
}

absl::Status UcxEnd::AddPeer(int32_t id, const std::string& name, const std::string& address) {
  if (closed_) return absl::FailedPreconditionError("the link is closed");
  if (address.empty() || address.size() > kMaxAddressBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: data-plane address of %d bytes: wanted 1..%d", name, address.size(),
                        kMaxAddressBytes));
  }
  auto peer = std::make_unique<Peer>();
  peer->end = this;
  peer->id = id;
  peer->name = name;
  ucp_ep_params_t parameters{};
  parameters.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                          UCP_EP_PARAM_FIELD_ERR_HANDLER;
  parameters.address = reinterpret_cast<const ucp_address_t*>(address.data());
  parameters.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  parameters.err_handler = {&UcxEnd::OnPeerError, peer.get()};
  const ucs_status_t status = ucp_ep_create(worker_, &parameters, &peer->endpoint);
  if (status != UCS_OK) {
    return absl::UnavailableError(
        absl::StrCat(name, ": no path to it: ", ucs_status_string(status)));
  }
  DescribePath(*peer);
  peers_[id] = std::move(peer);
  return absl::OkStatus();
}

// Lines like "#  lane[0]:  4:tcp/eth0.0 md[3] -> ..."; UCX 1.13 has no query for it.
void UcxEnd::DescribePath(Peer& peer) {
  char* text = nullptr;
  size_t bytes = 0;
  std::FILE* stream = open_memstream(&text, &bytes);
  if (stream == nullptr) return;
  ucp_ep_print_info(peer.endpoint, stream);
  std::fclose(stream);
  const std::string info(text, bytes);
  std::free(text);
  for (size_t lane = info.find("lane["); lane != std::string::npos;
       lane = info.find("lane[", lane + 1)) {
    const size_t slash = info.find('/', lane);
    const size_t colon = info.rfind(':', slash);
    if (slash == std::string::npos || colon == std::string::npos || colon < lane) continue;
    const std::string transport = info.substr(colon + 1, slash - colon - 1);
    if (peer.path.find(transport) != std::string::npos) continue;
    absl::StrAppend(&peer.path, peer.path.empty() ? "" : " ", transport);
  }
}

absl::Status UcxEnd::Send(int32_t id, const FrameHeader& header, std::span<const uint8_t> payload) {
  if (closed_) return absl::FailedPreconditionError("the link is closed");
  if (poisoned_.load(std::memory_order_acquire)) return poison();
  const auto found = peers_.find(id);
  if (found == peers_.end()) {
    return absl::InvalidArgumentError(absl::StrCat("peer ", id, " is not a member of this epoch"));
  }
  SendOperation* operation = nullptr;
  if (free_sends_.empty()) {
    operation = &send_memory_.emplace_back();
  } else {
    operation = free_sends_.back();
    free_sends_.pop_back();
  }
  operation->end = this;
  operation->peer = found->second.get();
  operation->header = EncodeFrameHeader(header);

  const Peer& peer = *found->second;
  const bool large = payload.size() >= context_->options.rendezvous_bytes;
  ucp_request_param_t parameters{};
  parameters.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  parameters.cb.send = &UcxEnd::OnSent;
  parameters.user_data = operation;
  parameters.flags =
      large && context_->rendezvous_is_safe ? UCP_AM_SEND_FLAG_RNDV : UCP_AM_SEND_FLAG_EAGER;
  ++sends_in_flight_;
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(peer.endpoint, kMessageId, operation->header.data(), operation->header.size(),
                      payload.data(), payload.size(), &parameters);
  if (request != nullptr && !UCS_PTR_IS_ERR(request)) return absl::OkStatus();
  --sends_in_flight_;
  free_sends_.push_back(operation);
  if (request == nullptr) return absl::OkStatus();
  Poison(absl::UnavailableError(
             absl::StrCat(peer.name, " lost: ", ucs_status_string(UCS_PTR_STATUS(request)))),
         peer.id);
  return poison();
}

void UcxEnd::OnSent(void* request, ucs_status_t status, void* argument) {
  auto* operation = static_cast<SendOperation*>(argument);
  UcxEnd* end = operation->end;
  --end->sends_in_flight_;
  if (status != UCS_OK && !end->closed_) {
    end->Poison(absl::UnavailableError(
                    absl::StrCat(operation->peer->name, " lost: ", ucs_status_string(status))),
                operation->peer->id);
  }
  end->free_sends_.push_back(operation);
  ucp_request_free(request);
}

void UcxEnd::OnPeerError(void* argument, ucp_ep_h, ucs_status_t status) {
  const auto* peer = static_cast<const Peer*>(argument);
  if (peer->end->closed_) return;
  peer->end->Poison(
      absl::UnavailableError(absl::StrCat(peer->name, " lost: ", ucs_status_string(status))),
      peer->id);
}

ucs_status_t UcxEnd::OnMessage(void* argument, const void* header_bytes, size_t header_size,
                               void* data, size_t bytes, const ucp_am_recv_param_t* parameters) {
  auto* end = static_cast<UcxEnd*>(argument);
  if (end->closed_) return UCS_OK;
  const absl::StatusOr<FrameHeader> header =
      DecodeFrameHeader({static_cast<const uint8_t*>(header_bytes), header_size});
  if (!header.ok() || header->payload_bytes != bytes || bytes > kMaxPayloadBytes)
    return UCS_OK;  // dropped
  void* tag = nullptr;
  uint8_t* to = end->sink_.Accept(*header, &tag);
  if (to == nullptr) return UCS_OK;
  if ((parameters->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0) {
    if (bytes > 0) std::memcpy(to, data, bytes);
    end->sink_.Landed(*header, tag, absl::OkStatus());
    return UCS_OK;
  }

  ReceiveOperation* operation = nullptr;
  if (end->free_receives_.empty()) {
    operation = &end->receive_memory_.emplace_back();
  } else {
    operation = end->free_receives_.back();
    end->free_receives_.pop_back();
  }
  *operation = {end, *header, tag};
  ucp_request_param_t receive{};
  receive.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  receive.cb.recv_am = &UcxEnd::OnReceived;
  receive.user_data = operation;
  ++end->receives_in_flight_;
  const ucs_status_ptr_t request = ucp_am_recv_data_nbx(end->worker_, data, to, bytes, &receive);
  if (request != nullptr && !UCS_PTR_IS_ERR(request)) return UCS_INPROGRESS;
  --end->receives_in_flight_;
  end->free_receives_.push_back(operation);
  end->sink_.Landed(*header, tag,
                    request == nullptr ? absl::OkStatus()
                                       : absl::UnavailableError(absl::StrCat(
                                             "receiving ", Describe(*header), ": ",
                                             ucs_status_string(UCS_PTR_STATUS(request)))));
  return UCS_INPROGRESS;
}

void UcxEnd::OnReceived(void* request, ucs_status_t status, size_t, void* argument) {
  auto* operation = static_cast<ReceiveOperation*>(argument);
  UcxEnd* end = operation->end;
  --end->receives_in_flight_;
  if (!end->closed_) {
    end->sink_.Landed(operation->header, operation->tag,
                      status == UCS_OK ? absl::OkStatus()
                                       : absl::UnavailableError(
                                             absl::StrCat("receiving ", Describe(operation->header),
                                                          ": ", ucs_status_string(status))));
  }
  end->free_receives_.push_back(operation);
  ucp_request_free(request);
}

absl::Status UcxEnd::ProgressUntil(const std::function<bool()>& done, TimePoint deadline) {
  if (closed_) return absl::FailedPreconditionError("the link is closed");
  TimePoint spin_until = TimePoint::min();
  if (context_->options.spin.count() > 0) {
    spin_until = std::chrono::steady_clock::now() + context_->options.spin;
  }
  for (int busy = 0;;) {
    unsigned events = 0;
    do {
      events = ucp_worker_progress(worker_);
      if (poisoned_.load(std::memory_order_acquire)) return poison();
      if (done()) return absl::OkStatus();
    } while (events != 0);
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= deadline) return absl::DeadlineExceededError("nothing arrived");
    if (now < spin_until) continue;

    const ucs_status_t armed = ucp_worker_arm(worker_);
    if (armed == UCS_ERR_BUSY) {
      // With sends queued behind a full socket this repeats: let the receiver have the core.
      if (++busy > 2) std::this_thread::yield();
      continue;
    }
    busy = 0;
    if (armed != UCS_OK) {
      Poison(UcxError("ucp_worker_arm", armed), kNobody);
      return poison();
    }
    pollfd descriptors[2] = {{worker_fd_, POLLIN, 0}, {abort_fd_, POLLIN, 0}};
    // TimePoint::max() - now overflows nothing: both are positive.
    const timespec timeout = Until(deadline, now);
    if (ppoll(descriptors, 2, &timeout, nullptr) < 0 && errno != EINTR) {
      Poison(absl::InternalError(absl::StrCat("ppoll: ", std::strerror(errno))), kNobody);
      return poison();
    }
  }
}

void UcxEnd::Poison(absl::Status status, int32_t lost_peer) {
  std::lock_guard lock(mutex_);
  if (!poison_.ok()) return;
  poison_ = std::move(status);
  lost_peer_ = lost_peer;
  poisoned_.store(true, std::memory_order_release);
}

absl::Status UcxEnd::poison() const {
  std::lock_guard lock(mutex_);
  return poison_;
}

int32_t UcxEnd::lost_peer() const {
  std::lock_guard lock(mutex_);
  return lost_peer_;
}

void UcxEnd::Abort(absl::Status why) {
  Poison(std::move(why), kNobody);
  const uint64_t one = 1;
  // It cannot fail but by a full counter, and then the reader is awake already.
  [[maybe_unused]] const ssize_t written = write(abort_fd_, &one, sizeof(one));
}

void UcxEnd::Close() {
  if (closed_) return;
  closed_ = true;
  Poison(absl::FailedPreconditionError("the link is closed"), kNobody);
  if (worker_ == nullptr) return;
  // A pull out of a peer's memory that is half done must end first: UCX 1.13 asserts that none is
  // left when it destroys an endpoint. It needs nothing of the peer, alive, stopped or dead, so
  // this is short.
  const TimePoint patience = std::chrono::steady_clock::now() + kPullPatience;
  while (receives_in_flight_ > 0 && std::chrono::steady_clock::now() < patience)
    ucp_worker_progress(worker_);
  // Requests still under way are not waited for (a dead peer's may never end): destroying the
  // worker ends them.
  ucp_request_param_t parameters{};
  parameters.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  parameters.flags = UCP_EP_CLOSE_FLAG_FORCE;
  for (auto& [id, peer] : peers_) {
    const ucs_status_ptr_t request = ucp_ep_close_nbx(peer->endpoint, &parameters);
    if (request == nullptr || UCS_PTR_IS_ERR(request)) continue;
    for (int turn = 0; turn < 1000 && ucp_request_check_status(request) == UCS_INPROGRESS; ++turn) {
      ucp_worker_progress(worker_);
    }
    ucp_request_free(request);
  }
  ucp_worker_destroy(worker_);
  worker_ = nullptr;
}

std::string UcxEnd::PathTo(int32_t peer) const {
  const auto found = peers_.find(peer);
  return found == peers_.end() ? "" : found->second->path;
}

}  // namespace sheaf
