#pragma once
#include <httplib.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cairn::app {

struct HttpLimits {
  std::size_t connections = 256;      // answered at once, each by a thread; more are refused with 503
  std::chrono::milliseconds idle{};   // without a byte from or to the client
  std::chrono::milliseconds whole{};  // from a request's first byte to the end of its answer
  std::size_t head_bytes = 32 << 10;  // request line and headers
  std::size_t body_bytes = 0;         // as they come, encoded or in a form
};

/// A client's socket as httplib reads and writes it. No call takes longer than the limits allow, whatever the
/// client does.
class Connection : public httplib::Stream {
 public:
  using Clock = std::chrono::steady_clock;

  /// Takes the socket over. `stop` becomes readable when the server is to end.
  Connection(int socket, int stop, const HttpLimits& limits);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Waits for the first byte of a request; false when none comes in time, or the server is to end.
  bool await_request();
  void head_is_read() { in_head_ = false; }
  bool in_head() const { return in_head_; }
  Clock::time_point deadline() const { return deadline_; }
  double seconds() const;  // since the request's first byte
  bool answered() const { return written_ > 0; }
  /// The status that tells the client why reading ended: 408, 413, 431; 400 where it simply went away.
  int failure() const { return failure_; }
  /// What is left of the request is not read: nothing can follow on this connection.
  void give_up_rest() { gave_up_ = true; }
  bool usable() const { return failure_ == 0 && !gave_up_; }
  /// Lets the client read the answer before the socket goes, though it may still be sending.
  void linger();

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, std::size_t size) override;
  ssize_t write(const char* from, std::size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  bool fill();

  const int socket_;
  const int stop_;
  const HttpLimits& limits_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of what is in the buffer
  Clock::time_point started_, deadline_;
  bool in_head_ = true;
  bool gave_up_ = false;
  int failure_ = 0;
  std::size_t head_ = 0;  // bytes of the request
  std::size_t body_ = 0;
  std::size_t written_ = 0;  // bytes of the answer
};

/// An HTTP/1.1 server whose threads, memory a connection and time a request are bounded. httplib parses
/// requests, routes and forms answers; sockets and threads are ours, since its own have no limit on
/// connections that wait, on headers, or on the time that a request takes as a whole.
class HttpServer : private httplib::Server {
 public:
  explicit HttpServer(HttpLimits limits);
  ~HttpServer() override;

  using httplib::Server::Get;
  using httplib::Server::Post;
  using httplib::Server::set_default_headers;
  using httplib::Server::set_error_handler;
  using httplib::Server::set_exception_handler;
  using httplib::Server::set_expect_100_continue_handler;
  using httplib::Server::set_logger;
  using httplib::Server::set_post_routing_handler;
  using httplib::Server::set_pre_routing_handler;

  /// Returns the port, which the system chooses for 0. Throws Error naming host, port and reason.
  int listen_on(const std::string& host, int port);
  /// Whether the address reaches this machine alone; after listen_on().
  bool loopback() const { return loopback_; }
  /// Accepts connections until stop(); returns when those under way are answered.
  void serve();
  /// From any thread, and again and again.
  void stop();
  bool stopping() const { return stopping_; }
  /// The connection whose request this thread answers.
  static Connection& current();

  std::function<void()> on_open, on_close;  // of a connection that is answered
  /// An answer that no route formed, by its status.
  std::function<void(int status)> on_refusal;
  /// The JSON body of an error.
  static std::string error_body(const std::string& message);

 private:
  struct Refused {
    int socket;
    Connection::Clock::time_point until;
  };
  void take(int socket);
  void refuse(int socket);
  void close_refused(bool all);
  void work();
  void answer(int socket);
  std::string raw_answer(int status);

  const HttpLimits limits_;
  int listener_ = -1;
  int stop_event_ = -1;
  bool loopback_ = false;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int> accepted_;
  std::size_t idle_ = 0;
  bool closed_ = false;  // no connection comes any more
  std::vector<std::thread> threads_;
  std::deque<Refused> refused_;
};

}  // namespace cairn::app
