// `cairn serve`: the program itself, asked over a socket by a client written here, byte by byte. What
// `cairn predict` says of the same file is the reference.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/model_card.h"
#include "engine/io/weights.h"
#include "models/registry.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// One TCP connection to the service. Every wait ends after 20 seconds.
class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      ADD_FAILURE() << "no connection to port " << port;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(const std::string& bytes) const {
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::send(socket_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return;  // the service has said all it has to say
      done += static_cast<std::size_t>(n);
    }
  }
  void finish_sending() const { ::shutdown(socket_, SHUT_WR); }

  struct Answer {
    int status = 0;  // 0: the connection was closed without one
    std::string head, body;
    json parsed() const { return json::parse(body); }
  };
  Answer answer() {
    while (bytes_.find("\r\n\r\n") == std::string::npos && more()) {
    }
    Answer answer;
    const std::size_t end = bytes_.find("\r\n\r\n");
    if (end == std::string::npos) return answer;
    answer.head = bytes_.substr(0, end + 2);
    answer.status = std::stoi(answer.head.substr(9, 3));
    const std::size_t at = answer.head.find("Content-Length: ");
    const std::size_t length = at == std::string::npos ? 0 : std::stoul(answer.head.substr(at + 16));
    while (bytes_.size() < end + 4 + length && more()) {
    }
    answer.body = bytes_.substr(end + 4, length);
    bytes_.erase(0, end + 4 + length);
    return answer;
  }
  /// Whether the other side closes, and says nothing more before.
  bool closed() { return bytes_.empty() && !more() && bytes_.empty(); }

 private:
  bool more() {
    pollfd ready{.fd = socket_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 20'000) <= 0) {
      ADD_FAILURE() << "no answer within 20 seconds";
      return false;
    }
    char buffer[65536];
    const ssize_t n = ::recv(socket_, buffer, sizeof buffer, 0);
    if (n > 0) bytes_.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }
  int socket_;
  std::string bytes_;
};

std::string post(const std::string& body, const std::string& target = "/predict",
                 const std::string& more = "") {
  return "POST " + target + " HTTP/1.1\r\nHost: x\r\n" + more +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string get(const std::string& target) { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"; }

class Serve : public testing::Test {
 protected:
  void SetUp() override {
    if (cairn("serve").err.find("libcpp-httplib-dev") != std::string::npos)
      GTEST_SKIP() << "this build has no cpp-httplib";
    card_ = {
        .model = "model_cnn", .classes = {"ape", "bee", "cat", "dog"}, .image_size = 32, .normalization = {}};
    card_.temperature = 1.7;  // so that confidences are seen to be the calibrated ones
    const auto model =
        models::make_model(card_.model, {.classes = 4, .image_size = 32, .seed = 3, .dropout = {}});
    io::save_weights(*model, weights(), card_metadata(card_));
  }
  void TearDown() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  std::string weights() const { return folder_.path("w.safetensors"); }

  void start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {CAIRN_PROGRAM, "serve",     "--device", "cpu",       "--port",
                                      "0",           "--weights", weights(),  "--threads", "2",
                                      "--workers",   "2",         "--json"};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    int out[2];
    ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
    const std::string err = folder_.path("err");
    ::setenv("OMP_WAIT_POLICY", "passive", 1);
    pid_ = ::fork();
    ASSERT_GE(pid_, 0);
    if (pid_ == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      if (!std::freopen(err.c_str(), "w", stderr)) ::_exit(126);
      ::execv(CAIRN_PROGRAM, argv.data());
      ::_exit(127);
    }
    ::close(out[1]);
    std::string line;
    for (char c = 0; ::read(out[0], &c, 1) == 1 && c != '\n';) line += c;
    ::close(out[0]);
    ASSERT_FALSE(line.empty()) << read_file(err);
    port_ = json::parse(line).at("port");
  }
  /// The exit status after the signal; 128 + signal where one ended it.
  int end(int signal = SIGTERM) {
    ::kill(pid_, signal);
    return wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string errors() const { return read_file(folder_.path("err")); }
  Client::Answer ask(const std::string& request) const {
    Client client(port_);
    client.send(request);
    return client.answer();
  }
  /// What `cairn predict` prints for files of these contents, in order, without the paths.
  std::vector<json> predicted(const std::vector<std::string>& files, const std::string& more) {
    std::string paths;
    for (std::size_t i = 0; i < files.size(); ++i) {
      folder_.write("f" + std::to_string(i), files[i]);
      paths += " " + folder_.path("f" + std::to_string(i));
    }
    const Outcome o = cairn("predict --device cpu --json --weights " + weights() + " " + more + paths);
    EXPECT_EQ(o.status, 0) << o.err;
    std::vector<json> answers;
    for (const std::string& line : lines_of(o.out)) {
      answers.push_back(json::parse(line));
      answers.back().erase("path");
    }
    return answers;
  }

  data::TempFolder folder_;
  ModelCard card_;
  pid_t pid_ = -1;
  int port_ = 0;
};

TEST_F(Serve, SaysOfAFileWhatPredictSaysBitForBit) {
  // Kernels are chosen by the number of images, so the same bits need passes of the same size: one file each.
  start({"--batch-size", "1"});
  const std::vector<std::string> files = {make_png(32, 32, 1, 0), make_png(100, 57, 2, 1),
                                          make_jpeg(300, 200, 3), make_png(5, 400, 4, 2)};
  std::vector<json> alone;
  for (const std::string& file : files) alone.push_back(predicted({file}, "--logits --top 2").at(0));
  std::vector<std::thread> clients;
  std::atomic<int> equal = 0;
  for (int c = 0; c < 8; ++c)
    clients.emplace_back([&, c] {
      Client client(port_);
      for (int k = 0; k < 8; ++k) {
        const std::size_t i = static_cast<std::size_t>(c + k) % files.size();
        client.send(post(files[i], "/predict?top=2&logits=1"));
        const Client::Answer a = client.answer();
        equal += a.status == 200 && a.parsed() == alone[i];
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(equal, 8 * 8);
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, GivesEachClientItsOwnAnswerFromASharedPass) {
  start();
  std::vector<std::string> files;
  for (unsigned i = 0; i < 16; ++i) files.push_back(make_png(32, 32, i, i));
  const std::vector<json> together = predicted(files, "--logits");
  // Sums of up to 2048 products in fp32, added up in another order: eps * sqrt(2048), logits being below 1.
  const double tolerance = 1.2e-7 * 46;
  std::vector<std::thread> clients;
  std::atomic<int> close = 0;
  for (std::size_t c = 0; c < files.size(); ++c)
    clients.emplace_back([&, c] {
      Client client(port_);
      for (int k = 0; k < 8; ++k) {
        client.send(post(files[c], "/predict?logits=1"));
        const json answer = client.answer().parsed();
        double worst = 0;
        for (std::size_t j = 0; j < card_.classes.size(); ++j)
          worst = std::max(
              worst, std::abs(answer["logits"][j].get<double>() - together[c]["logits"][j].get<double>()));
        close += worst <= tolerance && answer["class"] == together[c]["class"];
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(close, 16 * 8);
  const std::string metrics = ask(get("/metrics")).body;
  EXPECT_THAT(metrics, HasSubstr("cairn_images_total 128\n"));
  EXPECT_THAT(metrics, Not(HasSubstr("cairn_batch_images_count 128\n")));  // some passes were shared
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, TakesAFormAsBrowsersSendIt) {
  start();
  const std::string image = make_png(40, 30, 9, 1);
  const std::string form =
      "--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"
      "Content-Type: image/png\r\n\r\n" +
      image + "\r\n--B--\r\n";
  const std::string type = "Content-Type: multipart/form-data; boundary=B\r\n";
  const Client::Answer a = ask(post(form, "/predict", type));
  ASSERT_EQ(a.status, 200) << a.body;
  EXPECT_EQ(a.parsed(), predicted({image}, "").at(0));
  EXPECT_EQ(a.parsed()["top"].size(), 3U);

  const std::string two = form.substr(0, form.size() - 4) + "\r\n" + form;
  EXPECT_EQ(ask(post(two, "/predict", type)).status, 400);
  EXPECT_EQ(ask(post("no form at all", "/predict", type)).status, 400);
  const std::string chunk = "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  char size[16];
  std::snprintf(size, sizeof size, "%zx\r\n", image.size());
  EXPECT_EQ(ask(chunk + size + image + "\r\n0\r\n\r\n").parsed(), a.parsed());
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, AnswersWhatIsWrongInOneLine) {
  start({"--max-body-mb", "1", "--max-pixels", "10000"});
  const std::string good = make_png(32, 32, 1, 0);
  const std::string large(2 << 20, 'x');
  struct Case {
    std::string request;
    int status;
    std::string says;
  };
  const std::vector<Case> cases = {
      {post("this is no image"), 400, "image"},
      {post(""), 400, "empty"},
      {post(good.substr(0, good.size() / 2)), 400, "image"},
      {post(make_png(101, 100, 1, 0)), 400, "pixels"},
      {post(make_png_bomb(60'000, 60'000)), 400, "pixels"},
      {post(large), 413, "1 MB"},
      {"POST /predict HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413, "1 MB"},
      {"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length"},
      {"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + large + "\r\n0\r\n\r\n",
       413, "too large"},
      {"POST /predict HTTP/1.1\r\nHost: x\r\n\r\n", 411, "how long"},
      {post(good, "/predict", "Content-Encoding: gzip\r\n"), 415, "Content-Encoding"},
      {post(good, "/predict?top=0"), 400, "top"},
      {post(good, "/predict?top=x"), 400, "top"},
      {post(good, "/predict?logits=yes"), 400, "logits"},
      {get("/predict"), 405, "method"},
      {post(good, "/healthz"), 405, "method"},
      {"DELETE /predict HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method"},
      {get("/etc/passwd"), 404, "/predict"},
      {get("/../../etc/passwd"), 404, "/predict"},
      {"BREW /pot HTTP/1.1\r\n\r\n", 400, ""},
      {std::string("\x16\x03\x01\x02\0\x01\xff\xfe\r\n\r\n", 12), 400, ""},
      {"GET / HTTP/1.1\r\nX: " + std::string(100'000, 'y') + "\r\n\r\n", 431, "headers"},
      {"GET /" + std::string(20'000, 'y') + " HTTP/1.1\r\n\r\n", 414, ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.request.substr(0, 80));
    const Client::Answer a = ask(c.request);
    EXPECT_EQ(a.status, c.status) << a.body;
    const std::string error = a.parsed().at("error");
    EXPECT_THAT(error, HasSubstr(c.says));
    EXPECT_THAT(error, Not(HasSubstr("\n")));
    EXPECT_EQ(ask(post(good)).status, 200);
  }
  EXPECT_THAT(ask(get("/predict")).head, HasSubstr("Allow: POST"));
  // curl asks first before it sends much.
  EXPECT_EQ(ask("POST /predict HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n").status,
            413);
  // What went wrong ends no connection on which the next request can be told from it.
  Client client(port_);
  client.send(post("garbage") + post(good));
  EXPECT_EQ(client.answer().status, 400);
  EXPECT_EQ(client.answer().status, 200);
  client.send("GARBAGE\r\n\r\n" + get("/healthz"));
  EXPECT_EQ(client.answer().status, 400);
  EXPECT_TRUE(client.closed());
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, TellsHowItIs) {
  start();
  EXPECT_EQ(ask(get("/healthz")).body, "{\"status\":\"ok\"}\n");
  const json model = ask(get("/model")).parsed();
  EXPECT_EQ(model["classes"], json(card_.classes));
  EXPECT_EQ(model["image_size"], 32);
  ask(post(make_png(32, 32, 1, 0)));
  ask(post("garbage"));
  ask(get("/nowhere"));
  const auto counted = AllOf(HasSubstr("cairn_requests_total{path=\"/predict\",code=\"200\"} 1\n"),
                             HasSubstr("cairn_requests_total{path=\"/predict\",code=\"400\"} 1\n"),
                             HasSubstr("cairn_requests_total{path=\"other\",code=\"404\"} 1\n"),
                             HasSubstr("cairn_request_seconds_count 2\n"),
                             HasSubstr("cairn_images_total 1\n"), HasSubstr("cairn_queue_length 0\n"));
  Client::Answer a = ask(get("/metrics"));
  // An answer is counted once it has been sent, which may be after it has come.
  for (int i = 0; i < 250 && !testing::Value(a.body, counted); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    a = ask(get("/metrics"));
  }
  EXPECT_THAT(a.head, HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_THAT(a.body, counted);

  const Client::Answer page = ask(get("/"));
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.head, HasSubstr("Content-Type: text/html"));
  EXPECT_THAT(page.head, HasSubstr("X-Content-Type-Options: nosniff"));
  EXPECT_THAT(page.head, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(page.body, Not(HasSubstr("://")));  // nothing from elsewhere
  const std::size_t nonce = page.head.find("'nonce-") + 7;
  EXPECT_THAT(page.body, HasSubstr("<script nonce=\"" + page.head.substr(nonce, 32) + "\">"));
  EXPECT_NE(page.body, ask(get("/")).body);  // a nonce serves once
  EXPECT_EQ(ask("HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n").status, 200);
  EXPECT_EQ(end(SIGINT), 0) << errors();
}

TEST_F(Serve, CutsSlowClientsOffAndServesTheOthers) {
  start({"--read-timeout", "0.5", "--timeout", "2"});
  const std::string good = make_png(32, 32, 1, 0);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> clients;
  std::atomic<int> told = 0, silent = 0;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {  // stops in the body
      Client client(port_);
      client.send(post(good).substr(0, 200));
      told += client.answer().status == 408 && client.closed();
    });
    clients.emplace_back([&] {  // stops in the head
      Client client(port_);
      client.send("POST /predict HTT");
      told += client.answer().status == 408 && client.closed();
    });
    clients.emplace_back([&] {  // never pauses for long, and never ends
      Client client(port_);
      client.send("POST /predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n");
      for (int k = 0; k < 15; ++k) {
        client.send("x");
        std::this_thread::sleep_for(200ms);
      }
      told += client.answer().status == 408;
    });
    clients.emplace_back([&] {  // says nothing at all
      silent += Client(port_).closed();
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask(post(good)).status, 200);
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(told, 12);
  EXPECT_EQ(silent, 4);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, RefusesWhatItCannotHoldAndTellsWhenToComeBack) {
  start({"--queue", "1"});
  const std::string slow = make_png(2500, 2500, 1, 0);
  std::vector<std::thread> clients;
  std::atomic<int> done = 0, refused = 0;
  for (int i = 0; i < 12; ++i)
    clients.emplace_back([&] {
      const Client::Answer a = ask(post(slow));
      done += a.status == 200;
      refused += a.status == 503 && a.head.find("Retry-After: 1\r\n") != std::string::npos;
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(done + refused, 12);
  EXPECT_GE(done, 1);
  EXPECT_GE(refused, 1);
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, RefusesConnectionsBeyondItsLimit) {
  start({"--connections", "2", "--read-timeout", "1"});
  Client first(port_), second(port_);
  first.send("GET /hea");
  second.send("GET /hea");
  std::this_thread::sleep_for(100ms);
  const Client::Answer third = ask(get("/healthz"));
  EXPECT_EQ(third.status, 503);
  EXPECT_THAT(third.head, HasSubstr("Retry-After"));
  first.send("lthz HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(first.answer().status, 200);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(ask(get("/healthz")).status, 200);
  EXPECT_EQ(second.answer().status, 408);
  EXPECT_EQ(end(), 0) << errors();
}

TEST_F(Serve, AnswersWhatIsUnderWayBeforeItEnds) {
  start();
  const std::string request = post(make_png(64, 64, 1, 0));
  Client busy(port_), idle(port_);
  idle.send(get("/healthz"));
  EXPECT_EQ(idle.answer().status, 200);
  busy.send(request.substr(0, request.size() / 2));
  std::this_thread::sleep_for(100ms);
  ::kill(pid_, SIGTERM);
  EXPECT_TRUE(idle.closed());
  EXPECT_EQ(::waitpid(pid_, nullptr, WNOHANG), 0);
  busy.send(request.substr(request.size() / 2));
  const Client::Answer a = busy.answer();
  EXPECT_EQ(a.status, 200);
  EXPECT_THAT(a.head, HasSubstr("Connection: close"));
  EXPECT_EQ(wait(), 0) << errors();
  EXPECT_THAT(errors(), HasSubstr("ended after 2 answers"));
}

TEST_F(Serve, SecondSignalEndsItAtOnce) {
  start();
  Client busy(port_);
  busy.send("POST /predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n");
  std::this_thread::sleep_for(100ms);
  ::kill(pid_, SIGINT);
  std::this_thread::sleep_for(200ms);
  EXPECT_EQ(end(SIGINT), 128 + SIGINT);
}

TEST_F(Serve, SaysWhatIsWrongWithItsOptions) {
  start();
  const std::string common = "serve --device cpu --weights " + weights();
  const Outcome taken = cairn(common + " --port " + std::to_string(port_));
  EXPECT_EQ(taken.status, 1);
  EXPECT_EQ(lines_of(taken.err).size(), 1U) << taken.err;
  EXPECT_THAT(taken.err, HasSubstr("port " + std::to_string(port_) + " on 127.0.0.1 is in use"));
  EXPECT_EQ(cairn(common + " --port 70000").status, 2);
  EXPECT_EQ(cairn(common + " --host no.such.host.invalid --port 0").status, 2);
  EXPECT_EQ(cairn("serve --port 0").status, 2);
  EXPECT_EQ(end(), 0) << errors();
  EXPECT_THAT(errors(), Not(HasSubstr("warning")));
  start({"--host", "0.0.0.0"});
  EXPECT_EQ(ask(get("/healthz")).status, 200);
  EXPECT_EQ(end(), 0);
  EXPECT_THAT(errors(), HasSubstr("warning: anyone who can reach this machine"));
}

}  // namespace
}  // namespace cairn::app
