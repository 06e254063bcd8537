#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "apps/serve/http_server.h"

namespace cairn::app {
namespace {

// A client that is told to stop may have megabytes on the way; what comes later than this is its own loss.
constexpr std::chrono::seconds kLinger{2};

int milliseconds_until(Connection::Clock::time_point time) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Connection::Clock::now());
  return static_cast<int>(std::max<std::chrono::milliseconds::rep>(left.count(), 0));
}

// Whether the socket is ready for `events`, or broken, before the time is over.
bool wait_for(int socket, short events, Connection::Clock::time_point until) {
  for (;;) {
    pollfd ready{.fd = socket, .events = events, .revents = 0};
    const int n = ::poll(&ready, 1, milliseconds_until(until));
    if (n >= 0 || errno != EINTR) return n > 0;
  }
}

template <class GetName>
void name_of(int socket, GetName get_name, std::string& ip, int& port) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST], service[NI_MAXSERV];
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (get_name(socket, generic, &length) != 0 ||
      ::getnameinfo(generic, length, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return;
  ip = host;
  port = std::atoi(service);
}

}  // namespace

Connection::Connection(int socket, int stop, const HttpLimits& limits)
    : socket_(socket), stop_(stop), limits_(limits), buffer_(16 << 10) {}

Connection::~Connection() { ::close(socket_); }

double Connection::seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

bool Connection::await_request() {
  in_head_ = true;
  head_ = body_ = written_ = 0;
  if (begin_ == end_) {
    const Clock::time_point until = Clock::now() + limits_.idle;
    for (;;) {
      pollfd ready[2] = {{.fd = socket_, .events = POLLIN, .revents = 0},
                         {.fd = stop_, .events = POLLIN, .revents = 0}};
      const int n = ::poll(ready, 2, milliseconds_until(until));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      if (ready[0].revents != 0) break;  // a request that is here is answered, the end near or not
      return false;
    }
  }
  started_ = Clock::now();
  deadline_ = started_ + limits_.whole;
  return true;
}

bool Connection::fill() {
  if (!usable()) return false;
  const Clock::time_point until = std::min(deadline_, Clock::now() + limits_.idle);
  for (;;) {
    if (Clock::now() >= deadline_) {  // bytes may trickle in without a pause that is too long
      failure_ = 408;
      return false;
    }
    const ssize_t n = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n > 0) {
      begin_ = 0;
      end_ = static_cast<std::size_t>(n);
      return true;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
      failure_ = 400;
      return false;
    }
    if (!wait_for(socket_, POLLIN, until)) {
      failure_ = 408;
      return false;
    }
  }
}

ssize_t Connection::read(char* to, std::size_t size) {
  if (begin_ == end_ && !fill()) return -1;
  const std::size_t n = std::min(size, end_ - begin_);
  if (in_head_ && (head_ += n) > limits_.head_bytes) {
    failure_ = 431;
    return -1;
  }
  if (!in_head_ && (body_ += n) > limits_.body_bytes) {
    failure_ = 413;
    return -1;
  }
  std::memcpy(to, buffer_.data() + begin_, n);
  begin_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t Connection::write(const char* from, std::size_t size) {
  // An answer that says "too late" has some time of its own.
  const Clock::time_point until = std::max(deadline_, Clock::now()) + limits_.idle;
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::send(socket_, from + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || !wait_for(socket_, POLLOUT, until)) {
      gave_up_ = true;
      return -1;
    }
  }
  written_ += done;
  return static_cast<ssize_t>(done);
}

void Connection::linger() {
  ::shutdown(socket_, SHUT_WR);
  const Clock::time_point until = Clock::now() + kLinger;
  for (;;) {
    const ssize_t n = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) return;
    if (Clock::now() >= until || (n < 0 && !wait_for(socket_, POLLIN, until))) return;
  }
}

bool Connection::is_readable() const { return begin_ < end_ || wait_for(socket_, POLLIN, Clock::now()); }

bool Connection::is_writable() const { return !gave_up_ && wait_for(socket_, POLLOUT, deadline_); }

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  name_of(socket_, ::getpeername, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  name_of(socket_, ::getsockname, ip, port);
}

}  // namespace cairn::app
