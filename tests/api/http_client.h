#pragma once
// A blocking HTTP/1.1 client over a plain socket, for tests of the server: it sees the bytes as
// they are.
//
// Errors     every read ends after ten seconds: Recv then returns nothing.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

namespace sheaf {

struct HttpAnswer {
  int status = 0;                              // 0: no answer came
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
};

class HttpClient {
 public:
  explicit HttpClient(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    timeval limit{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~HttpClient() { Close(); }
  HttpClient(const HttpClient&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  bool SendRequest(const std::string& method, const std::string& path, const std::string& body = "",
                   const std::string& headers = "") {
    return Send(method + " " + path + " HTTP/1.1\r\nHost: test\r\n" + headers +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }

  HttpAnswer Get(const std::string& path) {
    return SendRequest("GET", path) ? Receive() : HttpAnswer();
  }
  HttpAnswer Post(const std::string& path, const std::string& body) {
    return SendRequest("POST", path, body) ? Receive() : HttpAnswer();
  }

  // Status line and headers only; the body can then be read piece by piece.
  HttpAnswer ReceiveHead() {
    HttpAnswer answer;
    if (!FillUntil("\r\n\r\n")) return answer;
    std::string head = Consume(buffer_.find("\r\n\r\n") + 4);
    answer.status = std::atoi(head.c_str() + sizeof("HTTP/1.1"));
    for (size_t at = head.find("\r\n") + 2; at < head.size();) {
      const size_t end = head.find("\r\n", at);
      const size_t colon = head.find(": ", at);
      if (colon < end) {
        std::string name = head.substr(at, colon - at);
        for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        answer.headers[name] = head.substr(colon + 2, end - colon - 2);
      }
      at = end + 2;
    }
    return answer;
  }

  // One chunk of a chunked body; empty at its end.
  std::string ReceiveChunk() {
    if (!FillUntil("\r\n")) return {};
    const size_t size = std::strtoul(buffer_.c_str(), nullptr, 16);
    Consume(buffer_.find("\r\n") + 2);
    if (!FillTo(size + 2)) return {};
    std::string chunk = Consume(size);
    Consume(2);
    return chunk;
  }

  HttpAnswer Receive(bool head_only = false) {
    HttpAnswer answer = ReceiveHead();
    if (answer.status == 0 || head_only) return answer;
    if (answer.headers.count("transfer-encoding") != 0) {
      for (std::string chunk = ReceiveChunk(); !chunk.empty(); chunk = ReceiveChunk())
        answer.body += chunk;
    } else if (answer.headers.count("content-length") != 0) {
      const size_t size = std::strtoul(answer.headers["content-length"].c_str(), nullptr, 10);
      if (FillTo(size)) answer.body = Consume(size);
    } else {
      while (Fill()) {
      }
      answer.body = Consume(buffer_.size());
    }
    return answer;
  }

  // So many bytes of a body; empty when they do not come.
  std::string Take(size_t size) { return FillTo(size) ? Consume(size) : std::string(); }

  // True when the server has closed its end and nothing is left to read.
  bool AtEnd() { return buffer_.empty() && !Fill() && closed_; }

 private:
  bool Fill() {
    char bytes[65536];
    const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
    closed_ = got == 0;
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(got));
    return true;
  }
  bool FillTo(size_t size) {
    while (buffer_.size() < size) {
      if (!Fill()) return false;
    }
    return true;
  }
  bool FillUntil(const char* mark) {
    while (buffer_.find(mark) == std::string::npos) {
      if (!Fill()) return false;
    }
    return true;
  }
  std::string Consume(size_t size) {
    std::string taken = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return taken;
  }

  int fd_;
  bool connected_ = false;
  bool closed_ = false;
  std::string buffer_;
};

}  // namespace sheaf
