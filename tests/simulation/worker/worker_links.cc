// A worker's links: hellos, announcements, one dispatch at a time in turn.

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/simulation/worker/worker_life.h"

namespace sheaf::simulation {

void SimulatedWorker::Accept(const ChannelPtr& channel) {
  channel->on_message = [this, weak = std::weak_ptr(channel)](const MessagePtr& message) {
    if (const ChannelPtr end = weak.lock()) TakeHello(end, message);
  };
}

void SimulatedWorker::TakeHello(const ChannelPtr& channel, const MessagePtr& message) {
  const auto* bytes = dynamic_cast<const HelloMessage*>(message.get());
  if (bytes == nullptr) return;  // a stray; the real listener closes such a connection
  LinkNonce nonce{};
  for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(random_.Next());
  const auto handshake = std::make_shared<WorkerHandshake>(
      LinkIdentity{world_.model.digest, instance_, secret_}, FrameIntegrity::kNone, nonce);
  const absl::StatusOr<HelloVerdict> verdict = handshake->TakeHello(bytes->bytes);
  if (!verdict.ok()) return channel->Close();
  AnswerHello(*channel, *handshake, *verdict);
  if (*verdict != HelloVerdict::kProve) return channel->Close();
  channel->on_message = [this, handshake, weak = std::weak_ptr(channel)](const MessagePtr& proof) {
    const ChannelPtr end = weak.lock();
    const auto kept = handshake;  // this handler is replaced meanwhile
    if (end != nullptr) TakeProof(end, *kept, proof);
  };
}

void SimulatedWorker::AnswerHello(Channel& channel, const WorkerHandshake& handshake,
                                  HelloVerdict verdict) {
  auto answer = std::make_shared<HelloAnswerMessage>();
  answer->bytes = handshake.Answer(verdict);
  channel.Send(std::move(answer), kHelloAnswerBytes);
}

void SimulatedWorker::TakeProof(const ChannelPtr& channel, WorkerHandshake& handshake,
                                const MessagePtr& message) {
  const auto* bytes = dynamic_cast<const HelloProofMessage*>(message.get());
  if (bytes == nullptr) return;  // a stray
  const absl::StatusOr<HelloVerdict> verdict = handshake.TakeProof(bytes->bytes);
  if (!verdict.ok()) return channel->Close();
  AnswerHello(*channel, handshake, *verdict);
  if (*verdict != HelloVerdict::kWelcome) return channel->Close();

  const Hello& hello = handshake.hello();
  for (const auto& old : std::vector(life_->links)) {
    if (old->router == hello.router) {
      old->channel->Close();
      DropLink(old);
    }
  }
  auto link = std::make_shared<Link>();
  link->channel = channel;
  link->id = hello.link;
  link->router = hello.router;
  channel->on_message = [this, link](const MessagePtr& frame) { TakeFrame(link, frame); };
  channel->on_closed = [this, link](const std::string&) { DropLink(link); };
  TellHoldings(*link);
  link->seen = life_->number;
  life_->links.push_back(link);
  LinksChanged();
}

void SimulatedWorker::DropLink(const std::shared_ptr<Link>& link) {
  std::erase(life_->links, link);
  LinksChanged();
}

void SimulatedWorker::LinksChanged() {
  life_->state.OnLinks(static_cast<int>(life_->links.size()));
  TellSeen();
  TickSoon();
}

void SimulatedWorker::TellHoldings(Link& link) {
  FrameHeader header;
  header.kind = FrameKind::kHoldings;
  header.element = FrameElement::kBitmap;
  header.link = link.id;
  header.sequence = life_->number;
  header.model = static_cast<uint32_t>(world_.model.digest);
  header.payload_bytes = life_->encoded.size();
  link.told = life_->number;
  SendFrame(*link.channel, header,
            std::vector<uint8_t>(life_->encoded.begin(), life_->encoded.end()));
}

void SimulatedWorker::TellSeen() {
  uint64_t seen = life_->number;
  for (const auto& link : life_->links) seen = std::min(seen, link->seen);
  if (seen <= life_->told_seen) return;
  life_->told_seen = seen;
  life_->plan.Seen(seen);
  LoadSoon();
}

void SimulatedWorker::TakeFrame(const std::shared_ptr<Link>& link, const MessagePtr& message) {
  auto frame = std::dynamic_pointer_cast<const FrameMessage>(message);
  if (frame == nullptr) return;
  const absl::StatusOr<FrameHeader> header = DecodeFrameHeader(frame->header);
  if (!header.ok()) {
    world_.invariants.Violate("wire", std::string(header.status().message()));
    return;
  }
  if (header->link != link->id && world_.mutant != Mutant::kSkipLinkCheck) return;
  if (header->kind == FrameKind::kHoldingsSeen) {
    if (header->sequence > link->told) {
      link->channel->Close();
      return DropLink(link);
    }
    link->seen = std::max(link->seen, header->sequence);
    return TellSeen();
  }
  if (header->kind != FrameKind::kDispatch) {
    link->channel->Close();
    return DropLink(link);
  }
  link->queue.push_back(std::move(frame));
  if (!life_->computing) Serve();
}

void SimulatedWorker::Serve() {
  FreeWhatNobodyReads();
  const size_t num_links = life_->links.size();
  for (size_t i = 0; i < num_links; ++i) {
    const std::shared_ptr<Link> link = life_->links[(life_->next_link + i) % num_links];
    if (link->queue.empty()) continue;
    life_->next_link = (life_->next_link + i + 1) % num_links;
    const auto dispatch = std::move(link->queue.front());
    link->queue.pop_front();
    const FrameHeader header = *DecodeFrameHeader(dispatch->header);
    // What it computes with stays alive until it is done.
    std::vector<std::pair<int32_t, std::shared_ptr<Copy>>> copies;
    bool all = true;
    for (uint32_t e = 0; e < header.experts; ++e) {
      int32_t run[2];
      std::memcpy(run, dispatch->payload.data() + e * sizeof(run), sizeof(run));
      const auto held = life_->store.find({header.layer, ExpertId(run[0])});
      if (held != life_->store.end()) copies.emplace_back(run[0], held->second);
      all = all && held != life_->store.end();
    }
    const double units = all ? static_cast<double>(header.experts) + 0.125 * header.pairs : 0;
    const auto takes = std::chrono::duration_cast<Duration>(options_.per_unit * units * slow_) +
                       std::chrono::microseconds(10);
    life_->computing = true;
    process_.After(takes, [this, link, dispatch, copies = std::move(copies)]() mutable {
      life_->computing = false;
      Answer(link, *dispatch, copies);
      copies.clear();
      FreeWhatNobodyReads();
      if (!life_->computing) Serve();
    });
    return;
  }
}

void SimulatedWorker::Answer(const std::shared_ptr<Link>& link, const FrameMessage& dispatch,
                             const std::vector<std::pair<int32_t, std::shared_ptr<Copy>>>& copies) {
  const FrameHeader header = *DecodeFrameHeader(dispatch.header);
  if (!link->channel->open()) return;
  if (copies.size() < header.experts) {
    std::vector<uint8_t> missing;
    uint32_t count = 0;
    for (uint32_t e = 0; e < header.experts; ++e) {
      int32_t expert;
      std::memcpy(&expert, dispatch.payload.data() + e * 2 * sizeof(int32_t), sizeof(expert));
      const bool here = std::any_of(copies.begin(), copies.end(),
                                    [&](const auto& copy) { return copy.first == expert; });
      if (here) continue;
      ++count;
      const auto* bytes = reinterpret_cast<const uint8_t*>(&expert);
      missing.insert(missing.end(), bytes, bytes + sizeof(expert));
    }
    world_.trace.Add(world_.now(), "not held",
                     {static_cast<uint64_t>(process_.host()), header.sequence, count});
    return SendFrame(*link->channel, NotHeldHeaderFor(header, count), std::move(missing));
  }
  if (random_.Chance(error_chance_)) {
    const std::string text = "it had an accident";
    return SendFrame(*link->channel, ErrorHeaderFor(header, text.size()),
                     std::vector<uint8_t>(text.begin(), text.end()));
  }
  Computed& computed = world_.ledger[{header.link.value(), header.sequence}];
  computed = {process_.host(), process_.life(), {}, {}};
  std::vector<uint8_t> combine;
  combine.reserve(header.pairs * sizeof(uint64_t));
  size_t at = header.experts * 2 * sizeof(int32_t);
  for (uint32_t e = 0; e < header.experts; ++e) {
    int32_t run[2];
    std::memcpy(run, dispatch.payload.data() + e * sizeof(run), sizeof(run));
    computed.experts.push_back(run[0]);
    if (copies[e].second->corrupted) computed.corrupted.push_back(run[0]);
    for (int32_t row = 0; row < run[1]; ++row, at += sizeof(uint64_t)) {
      uint64_t token;
      std::memcpy(&token, dispatch.payload.data() + at, sizeof(token));
      const uint64_t answer = World::Answer(copies[e].second->weights, token);
      const auto* bytes = reinterpret_cast<const uint8_t*>(&answer);
      combine.insert(combine.end(), bytes, bytes + sizeof(answer));
    }
  }
  SendFrame(*link->channel, CombineHeaderFor(header), std::move(combine));
}

}  // namespace sheaf::simulation
