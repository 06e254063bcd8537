#include "apps/serve/http_server.h"

#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "kernels/error.h"

namespace cairn::app {
namespace {

constexpr int kBacklog = 512;                // connections that the kernel keeps until they are accepted
constexpr std::size_t kKeepAlive = 1000;     // requests a connection
constexpr std::size_t kRefusedAtOnce = 256;  // sockets kept open until their client has read the refusal
constexpr std::chrono::seconds kRefusedFor{1};

thread_local Connection* current_connection = nullptr;

std::string text_of(int error) { return std::generic_category().message(error); }

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  if (address->sa_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr) != 0;
  return false;
}

const char* reason_of(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 408:
      return "Request Timeout";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Service Unavailable";
  }
}

const char* message_of(int status) {
  switch (status) {
    case 400:
      return "this is no HTTP request";
    case 408:
      return "the request took too long to arrive";
    case 431:
      return "the request's headers are too large";
    default:
      return "too many connections: try again later";
  }
}

}  // namespace

HttpServer::HttpServer(HttpLimits limits) : limits_(limits), stop_event_(::eventfd(0, EFD_CLOEXEC)) {
  if (stop_event_ < 0) throw Error("cannot make an eventfd: " + text_of(errno));
  set_keep_alive_max_count(kKeepAlive);
  set_keep_alive_timeout(std::chrono::ceil<std::chrono::seconds>(limits_.idle).count());
}

HttpServer::~HttpServer() {
  if (listener_ >= 0) ::close(listener_);
  ::close(stop_event_);
}

std::string HttpServer::error_body(const std::string& message) {
  // What a client sent, a file's name for one, need not be UTF-8.
  return nlohmann::json{{"error", message}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

Connection& HttpServer::current() { return *current_connection; }

int HttpServer::listen_on(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) throw InputError("--host " + host + ": " + ::gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
  int error = 0;
  for (const addrinfo* a = found; a && listener_ < 0; a = a->ai_next) {
    const int socket = ::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    const int yes = 1;
    // A port that a server has just left is free; one that is in use stays refused.
    if (socket >= 0 && ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        ::bind(socket, a->ai_addr, a->ai_addrlen) == 0 && ::listen(socket, kBacklog) == 0) {
      listener_ = socket;
      loopback_ = is_loopback(a->ai_addr);
      break;
    }
    error = errno;
    if (socket >= 0) ::close(socket);
  }
  if (listener_ < 0 && error == EADDRINUSE)
    throw Error("port " + std::to_string(port) + " on " + host +
                " is in use: choose another with --port, or --port 0 for any free one");
  if (listener_ < 0)
    throw Error("cannot listen on " + host + " port " + std::to_string(port) + ": " + text_of(error));
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (::getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    throw Error("cannot ask for the port: " + text_of(errno));
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
}

void HttpServer::stop() {
  stopping_ = true;
  // Never read, so that it stays readable for every thread that waits. It cannot fail before 2^64 calls.
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_event_, &one, sizeof one);
}

void HttpServer::serve() {
  while (!stopping_) {
    pollfd ready[2] = {{.fd = listener_, .events = POLLIN, .revents = 0},
                       {.fd = stop_event_, .events = POLLIN, .revents = 0}};
    const int n = ::poll(ready, 2, refused_.empty() ? -1 : 100);
    close_refused(false);
    if (n <= 0 || ready[1].revents != 0) continue;
    const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket >= 0) {
      take(socket);
    } else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK && errno != ECONNABORTED) {
      // Out of descriptors or memory: some will be free again.
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  // New clients learn at once that nobody is here.
  ::close(listener_);
  listener_ = -1;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  close_refused(true);
}

void HttpServer::take(int socket) {
  {
    const std::lock_guard lock(mutex_);
    if (accepted_.size() >= idle_) {
      if (threads_.size() >= limits_.connections) {
        refuse(socket);
        return;
      }
      try {
        threads_.emplace_back([this] { work(); });
      } catch (const std::system_error&) {  // the system has no thread left for us
        refuse(socket);
        return;
      }
    }
    accepted_.push_back(socket);
  }
  changed_.notify_one();
}

std::string HttpServer::raw_answer(int status) {
  if (on_refusal) on_refusal(status);
  const std::string body = error_body(message_of(status));
  return "HTTP/1.1 " + std::to_string(status) + " " + reason_of(status) +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         (status == 503 ? "\r\nRetry-After: 1" : "") + "\r\nConnection: close\r\n\r\n" + body;
}

// The socket stays for a moment: closing it with bytes unread would take the answer back.
void HttpServer::refuse(int socket) {
  const std::string answer = raw_answer(503);
  if (::send(socket, answer.data(), answer.size(), MSG_NOSIGNAL) > 0) ::shutdown(socket, SHUT_WR);
  refused_.push_back({socket, Connection::Clock::now() + kRefusedFor});
  while (refused_.size() > kRefusedAtOnce) {
    ::close(refused_.front().socket);
    refused_.pop_front();
  }
}

void HttpServer::close_refused(bool all) {
  while (!refused_.empty() && (all || refused_.front().until <= Connection::Clock::now())) {
    ::close(refused_.front().socket);
    refused_.pop_front();
  }
}

void HttpServer::work() {
  for (;;) {
    int socket = -1;
    {
      std::unique_lock lock(mutex_);
      ++idle_;
      changed_.wait(lock, [&] { return closed_ || !accepted_.empty(); });
      --idle_;
      if (accepted_.empty()) return;
      socket = accepted_.front();
      accepted_.pop_front();
    }
    if (on_open) on_open();
    try {
      answer(socket);
    } catch (const std::bad_alloc&) {
      // The client sees its connection closed; its memory is free again for the others.
    }
    if (on_close) on_close();
  }
}

void HttpServer::answer(int socket) {
  Connection connection(socket, stop_event_, limits_);
  current_connection = &connection;
  for (std::size_t n = 1; connection.await_request(); ++n) {
    const bool last = stopping_ || n == kKeepAlive;
    bool closed = false;
    const bool going =
        process_request(connection, last, closed, [&](httplib::Request&) { connection.head_is_read(); });
    if (connection.in_head()) connection.give_up_rest();  // no request at all: what follows cannot be one
    if (!connection.answered() && connection.failure() != 0) {
      const std::string raw = raw_answer(connection.failure());
      connection.write(raw.data(), raw.size());
    }
    if (!going || closed || last || !connection.usable()) break;
  }
  if (!connection.usable()) connection.linger();
  current_connection = nullptr;
}

}  // namespace cairn::app
