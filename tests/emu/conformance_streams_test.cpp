// Holds the runtime against the CUDA C++ Programming Guide 13.0: streams, events, the default stream,
// asynchronous copies, stream-ordered memory, graphs. Each test names the section ("Async" is short for
// "Asynchronous Concurrent Execution"); what the guide leaves open is the CUDA Runtime API's, sections "API
// synchronization behavior" and "Stream synchronization behavior". The same file runs on a GPU; on the
// emulated device each test runs in every schedule that the rules allow, and work that nothing orders is
// reported.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "tests/emu/programs.h"

#if defined(CAIRN_CUDA_EMU)
#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"
#endif

namespace cairn::kernels {
namespace {

constexpr std::size_t kWords = 4, kBytes = kWords * sizeof(Word);
using Words = std::array<Word, kWords>;

void must(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

struct Stream {
  explicit Stream(unsigned flags = cudaStreamNonBlocking) { must(cudaStreamCreateWithFlags(&s, flags)); }
  ~Stream() {
    if (s) must(cudaStreamDestroy(s));
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t s = nullptr;
};
struct Event {
  Event() { must(cudaEventCreateWithFlags(&e, cudaEventDisableTiming)); }
  ~Event() { must(cudaEventDestroy(e)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t e = nullptr;
};
/// Words on the device, all of one value.
struct Memory {
  explicit Memory(Word value) {
    const Words w{value, value, value, value};
    must(cudaMalloc(reinterpret_cast<void**>(&p), kBytes));
    must(cudaMemcpy(p, w.data(), kBytes, cudaMemcpyHostToDevice));
  }
  ~Memory() { must(cudaFree(p)); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  /// What is there after everything.
  Word value() const {
    Words w{};
    must(cudaDeviceSynchronize());
    must(cudaMemcpy(w.data(), p, kBytes, cudaMemcpyDeviceToHost));
    for (const Word other : w) EXPECT_EQ(other, w[0]);
    return w[0];
  }
  Word* p = nullptr;
};
struct Pinned {
  Pinned() { must(cudaMallocHost(reinterpret_cast<void**>(&p), kBytes)); }
  ~Pinned() { must(cudaFreeHost(p)); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  void fill(Word value) { std::fill_n(p, kWords, value); }
  Word* p = nullptr;
};

/// x = 2 * x + y, some time later.
void twice_plus(const Memory& x, const Memory& y, cudaStream_t stream) {
  const Status status = run_program("late_twice_plus", 1, kWords, 0, y.p, x.p, stream);
  ASSERT_TRUE(status.ok()) << status.message();
}

class ConformanceStreams : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
#if defined(CAIRN_CUDA_EMU)
    constexpr emu::Schedule kSchedules[] = {emu::Schedule::eager, emu::Schedule::late};
    const int n = GetParam();
    emu::set_schedule(n < 2 ? kSchedules[n] : emu::Schedule::random, static_cast<std::uint64_t>(n));
    emu::take_reports();
#endif
    cudaGetLastError();
  }
  void TearDown() override {
    must(cudaDeviceSynchronize());
#if defined(CAIRN_CUDA_EMU)
    emu::set_schedule(emu::Schedule::eager);
    for (const emu::Report& r : emu::take_reports()) ADD_FAILURE() << r.message;
#endif
  }
};
#if defined(CAIRN_CUDA_EMU)
INSTANTIATE_TEST_SUITE_P(Schedules, ConformanceStreams, testing::Range(0, 12));
#else
INSTANTIATE_TEST_SUITE_P(Device, ConformanceStreams, testing::Values(0));
#endif

TEST_P(ConformanceStreams, RunTheirWorkInOrder) {  // Async, "Streams"
  const Memory x(1), three(3), five(5);
  const Stream s;
  twice_plus(x, three, s.s);
  twice_plus(x, five, s.s);
  must(cudaMemsetAsync(x.p, 0, 0, s.s));
  twice_plus(x, three, s.s);
  EXPECT_EQ(x.value(), 2u * (2 * (2 * 1 + 3) + 5) + 3);
}
TEST_P(ConformanceStreams, EventsOrderTwoOfThem) {  // Async, "Events"
  const Memory x(1), three(3), five(5);
  const Stream a, b;
  const Event e;
  twice_plus(x, three, a.s);
  must(cudaEventRecord(e.e, a.s));
  must(cudaStreamWaitEvent(b.s, e.e, 0));
  twice_plus(x, five, b.s);
  EXPECT_EQ(x.value(), 2u * (2 * 1 + 3) + 5);
}
TEST_P(ConformanceStreams, AWaitTakesTheEventAsItIsAtTheCall) {  // Runtime API, cudaStreamWaitEvent
  const Memory x(1), y(1), three(3), five(5);
  const Stream a, b, c;
  const Event e;
  twice_plus(x, three, a.s);
  must(cudaEventRecord(e.e, a.s));
  must(cudaStreamWaitEvent(b.s, e.e, 0));
  twice_plus(y, three, c.s);
  must(cudaEventRecord(e.e, c.s));  // no part of b's wait
  twice_plus(x, five, b.s);
  EXPECT_EQ(x.value(), 2u * (2 * 1 + 3) + 5);
  EXPECT_EQ(y.value(), 5u);
}
TEST_P(ConformanceStreams, AnEventStandsForItsLastRecord) {  // Runtime API, cudaEventRecord
  const Memory x(1), three(3);
  const Stream a, b;
  const Event e;
  must(cudaEventRecord(e.e, a.s));
  twice_plus(x, three, a.s);
  must(cudaEventRecord(e.e, a.s));
  must(cudaStreamWaitEvent(b.s, e.e, 0));
  twice_plus(x, three, b.s);
  EXPECT_EQ(x.value(), 2u * (2 * 1 + 3) + 3);
}
TEST_P(ConformanceStreams,
       AnEventThatWasNeverRecordedIsComplete) {  // Runtime API, cudaEventQuery, cudaStreamWaitEvent
  const Memory x(1), three(3);
  const Stream s;
  const Event e;
  EXPECT_EQ(cudaEventQuery(e.e), cudaSuccess);
  must(cudaEventSynchronize(e.e));
  must(cudaStreamWaitEvent(s.s, e.e, 0));
  twice_plus(x, three, s.s);
  EXPECT_EQ(x.value(), 5u);
}
TEST_P(ConformanceStreams, WaitingForAnEventMakesWhatCameBeforeVisible) {  // Async, "Events"
  const Memory x(1), three(3);
  Pinned host;
  const Stream s;
  const Event e;
  twice_plus(x, three, s.s);
  must(cudaMemcpyAsync(host.p, x.p, kBytes, cudaMemcpyDeviceToHost, s.s));
  must(cudaEventRecord(e.e, s.s));
  must(cudaEventSynchronize(e.e));
  EXPECT_EQ(host.p[0], 5u);
  EXPECT_EQ(cudaEventQuery(e.e), cudaSuccess);
}
TEST_P(ConformanceStreams, QueriesAnswerWithoutWaiting) {  // Async, "Explicit Synchronization"
  const Memory x(1), three(3);
  const Stream s;
  const Event e;
  for (int i = 0; i < 3; ++i) twice_plus(x, three, s.s);
  must(cudaEventRecord(e.e, s.s));
  const cudaError_t first = cudaStreamQuery(s.s);
  EXPECT_TRUE(first == cudaSuccess || first == cudaErrorNotReady) << first;
  must(cudaStreamSynchronize(s.s));
  EXPECT_EQ(cudaStreamQuery(s.s), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(e.e), cudaSuccess);
}
TEST_P(ConformanceStreams, SynchronizingOneWaitsForItsWork) {  // Async, "Explicit Synchronization"
  const Memory x(1), y(1), three(3);
  Pinned host;
  const Stream a, b;
  twice_plus(y, three, b.s);
  twice_plus(x, three, a.s);
  must(cudaMemcpyAsync(host.p, x.p, kBytes, cudaMemcpyDeviceToHost, a.s));
  must(cudaStreamSynchronize(a.s));
  EXPECT_EQ(host.p[kWords - 1], 5u);
  EXPECT_EQ(y.value(), 5u);
}
TEST_P(ConformanceStreams, TheHostsWaitOrdersStreams) {  // Async, "Explicit Synchronization"
  const Memory x(1), three(3), five(5);
  const Stream a, b;
  twice_plus(x, three, a.s);
  must(cudaStreamSynchronize(a.s));
  twice_plus(x, five, b.s);
  must(cudaDeviceSynchronize());
  twice_plus(x, three, a.s);
  EXPECT_EQ(x.value(), 2u * (2 * (2 * 1 + 3) + 5) + 3);
}
TEST_P(ConformanceStreams,
       TheDefaultStreamWaitsForBlockingOnes) {  // Async, "Default Stream"; Runtime API, legacy default stream
  const Memory x(1), three(3), five(5);
  const Stream blocking(cudaStreamDefault);
  twice_plus(x, three, blocking.s);
  twice_plus(x, five, nullptr);
  EXPECT_EQ(x.value(), 2u * (2 * 1 + 3) + 5);
}
TEST_P(ConformanceStreams, BlockingStreamsWaitForTheDefaultStream) {
  const Memory x(1), three(3), five(5);
  const Stream blocking(cudaStreamDefault), other(cudaStreamDefault);
  twice_plus(x, three, blocking.s);
  twice_plus(x, five, nullptr);
  twice_plus(x, three, other.s);  // behind the first through the default stream
  EXPECT_EQ(x.value(), 2u * (2 * (2 * 1 + 3) + 5) + 3);
}
TEST_P(ConformanceStreams,
       NonBlockingOnesNeedAnEventForTheDefaultStream) {  // Runtime API, cudaStreamNonBlocking
  const Memory x(1), three(3), five(5);
  const Stream s;
  const Event e;
  twice_plus(x, three, nullptr);
  must(cudaEventRecord(e.e, nullptr));
  must(cudaStreamWaitEvent(s.s, e.e, 0));
  twice_plus(x, five, s.s);
  EXPECT_EQ(x.value(), 2u * (2 * 1 + 3) + 5);
}
TEST_P(ConformanceStreams,
       CopiesFromPageableMemoryTakeItOverAtTheCall) {  // Runtime API, "API synchronization behavior"
  const Memory x(1), y(1);
  const Stream s;
  Words host{7, 7, 7, 7};
  must(cudaMemcpyAsync(x.p, host.data(), kBytes, cudaMemcpyHostToDevice, s.s));
  host.fill(8);
  must(cudaMemcpy(y.p, host.data(), kBytes, cudaMemcpyHostToDevice));
  host.fill(9);
  EXPECT_EQ(x.value(), 7u);
  EXPECT_EQ(y.value(), 8u);
}
TEST_P(ConformanceStreams, PinnedMemoryMayBeUsedAgainBehindAnEvent) {  // Async, "Concurrent Data Transfers"
  const Memory x(1), three(3), y(0);
  Pinned host;
  const Stream s;
  const Event copied;
  host.fill(7);
  twice_plus(x, three, s.s);
  must(cudaMemcpyAsync(x.p, host.p, kBytes, cudaMemcpyHostToDevice, s.s));
  must(cudaEventRecord(copied.e, s.s));
  must(cudaEventSynchronize(copied.e));
  host.fill(9);
  must(cudaMemcpyAsync(y.p, host.p, kBytes, cudaMemcpyHostToDevice, s.s));
  must(cudaStreamSynchronize(s.s));
  EXPECT_EQ(x.value(), 7u);
  EXPECT_EQ(y.value(), 9u);
}
TEST_P(ConformanceStreams, ACopyToTheHostReturnsWhenItIsThere) {  // Runtime API, cudaMemcpy
  const Memory x(1), three(3);
  const Stream blocking(cudaStreamDefault);
  twice_plus(x, three, blocking.s);
  Words host{};
  must(cudaMemcpy(host.data(), x.p, kBytes, cudaMemcpyDeviceToHost));  // of the default stream
  EXPECT_EQ(host[0], 5u);
}
TEST_P(ConformanceStreams, FillsAreOrderedWork) {  // Runtime API, cudaMemsetAsync
  const Memory x(1), three(3);
  const Stream s;
  twice_plus(x, three, s.s);
  must(cudaMemsetAsync(x.p, 1, kBytes, s.s));
  twice_plus(x, three, s.s);
  EXPECT_EQ(x.value(), 2u * 0x01010101u + 3);
}
TEST_P(ConformanceStreams,
       ADestroyedStreamsWorkIsStillDone) {  // Async, "Creation and Destruction of Streams"
  const Memory x(1), three(3);
  {
    const Stream s;
    twice_plus(x, three, s.s);
  }
  EXPECT_EQ(x.value(), 5u);
}
TEST_P(ConformanceStreams, HostFunctionsTakeTheirTurn) {  // Async, "Host Functions (Callbacks)"
  const Memory x(1), three(3);
  Pinned host;
  const Stream s;
  struct Note {
    const Word* from;
    Word seen;
  } note{host.p, 0};
  twice_plus(x, three, s.s);
  must(cudaMemcpyAsync(host.p, x.p, kBytes, cudaMemcpyDeviceToHost, s.s));
  must(cudaLaunchHostFunc(
      s.s,
      [](void* data) {
        auto* n = static_cast<Note*>(data);
        n->seen = n->from[0];
      },
      &note));
  must(cudaStreamSynchronize(s.s));
  EXPECT_EQ(note.seen, 5u);
}
TEST_P(ConformanceStreams, MemoryIsFreedInTheirOrder) {  // "Stream Ordered Memory Allocator"
  const Memory x(1), three(3);
  const Stream s;
  Word* p = nullptr;
  must(cudaMallocAsync(reinterpret_cast<void**>(&p), kBytes, s.s));
  must(cudaMemsetAsync(p, 0, kBytes, s.s));
  ASSERT_TRUE(run_program("late_twice_plus", 1, kWords, 0, three.p, p, s.s).ok());
  ASSERT_TRUE(run_program("late_twice_plus", 1, kWords, 0, p, x.p, s.s).ok());
  must(cudaFreeAsync(p, s.s));
  EXPECT_EQ(x.value(), 5u);
}
TEST_P(ConformanceStreams, ErrorsAreKeptUntilTheyAreAskedFor) {  // "Error Checking"
  const Memory x(1);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(1000), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

/// A captured graph, made executable.
struct Graph {
  explicit Graph(cudaGraph_t captured) : graph(captured) { must(cudaGraphInstantiate(&exec, graph, 0)); }
  ~Graph() {
    must(cudaGraphExecDestroy(exec));
    must(cudaGraphDestroy(graph));
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
};
cudaGraph_t end_capture(const Stream& s) {
  cudaGraph_t graph = nullptr;
  must(cudaStreamEndCapture(s.s, &graph));
  return graph;
}

TEST_P(ConformanceStreams,
       ACaptureRunsNothingAndIsReplayed) {  // "CUDA Graphs", "Creating a Graph Using Stream Capture"
  const Memory x(1), three(3);
  const Stream s;
  cudaStreamCaptureStatus status{};
  must(cudaStreamBeginCapture(s.s, cudaStreamCaptureModeThreadLocal));
  must(cudaStreamIsCapturing(s.s, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  twice_plus(x, three, s.s);
  const Graph g(end_capture(s));
  must(cudaStreamIsCapturing(s.s, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  EXPECT_EQ(x.value(), 1u);
  for (int i = 0; i < 3; ++i) must(cudaGraphLaunch(g.exec, s.s));  // one behind the other
  EXPECT_EQ(x.value(), 2u * (2 * (2 * 1 + 3) + 3) + 3);
}
TEST_P(ConformanceStreams,
       AReplayReadsMemoryAsItIsThen) {  // "CUDA Graphs": arguments are fixed, what they point at is not
  const Memory x(1), y(3);
  const Stream s;
  must(cudaStreamBeginCapture(s.s, cudaStreamCaptureModeThreadLocal));
  twice_plus(x, y, s.s);
  const Graph g(end_capture(s));
  must(cudaGraphLaunch(g.exec, s.s));
  must(cudaMemsetAsync(y.p, 0, kBytes, s.s));
  must(cudaGraphLaunch(g.exec, s.s));
  EXPECT_EQ(x.value(), 2u * (2 * 1 + 3) + 0);
}
TEST_P(ConformanceStreams, AGraphTakesItsTurnInTheStream) {  // "CUDA Graphs", "Graph Execution"
  const Memory x(1), three(3), five(5);
  const Stream s;
  must(cudaStreamBeginCapture(s.s, cudaStreamCaptureModeThreadLocal));
  twice_plus(x, three, s.s);
  twice_plus(x, five, s.s);
  const Graph g(end_capture(s));
  twice_plus(x, five, s.s);
  must(cudaGraphLaunch(g.exec, s.s));
  twice_plus(x, three, s.s);
  EXPECT_EQ(x.value(), 2u * (2 * (2 * (2 * 1 + 5) + 3) + 5) + 3);
}
TEST_P(ConformanceStreams,
       CapturesForkAndJoinByEvents) {  // "CUDA Graphs", "Cross-stream Dependencies and Events"
  const Memory x(1), y(1), three(3);
  const Stream a, b;
  const Event fork, join;
  must(cudaStreamBeginCapture(a.s, cudaStreamCaptureModeThreadLocal));
  twice_plus(x, three, a.s);
  must(cudaEventRecord(fork.e, a.s));
  must(cudaStreamWaitEvent(b.s, fork.e, 0));
  twice_plus(y, x, b.s);
  must(cudaEventRecord(join.e, b.s));
  must(cudaStreamWaitEvent(a.s, join.e, 0));
  twice_plus(x, y, a.s);
  const Graph g(end_capture(a));
  must(cudaGraphLaunch(g.exec, a.s));
  EXPECT_EQ(y.value(), 2u * 1 + 5);
  EXPECT_EQ(x.value(), 2u * 5 + 7);
}
TEST_P(ConformanceStreams, AForkThatDoesNotJoinIsAnError) {  // the same section
  const Memory x(1), three(3);
  const Stream a, b;
  const Event fork;
  must(cudaStreamBeginCapture(a.s, cudaStreamCaptureModeThreadLocal));
  must(cudaEventRecord(fork.e, a.s));
  must(cudaStreamWaitEvent(b.s, fork.e, 0));
  twice_plus(x, three, b.s);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(a.s, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  cudaGetLastError();
  EXPECT_EQ(x.value(), 1u);
}
TEST_P(ConformanceStreams,
       WaitingForACapturedStreamIsAnErrorAndEndsIt) {  // "CUDA Graphs", "Prohibited and Unhandled
                                                       // Operations", "Invalidation"
  const Memory x(1), three(3);
  const Stream s;
  must(cudaStreamBeginCapture(s.s, cudaStreamCaptureModeThreadLocal));
  twice_plus(x, three, s.s);
  EXPECT_EQ(cudaStreamSynchronize(s.s), cudaErrorStreamCaptureUnsupported);
  cudaStreamCaptureStatus status{};
  must(cudaStreamIsCapturing(s.s, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(s.s, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
  cudaGetLastError();
  twice_plus(x, three, s.s);  // the stream is usable again
  EXPECT_EQ(x.value(), 5u);
}
TEST_P(ConformanceStreams, TheDefaultStreamIsNotCaptured) {  // the same section
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeThreadLocal),
            cudaErrorStreamCaptureUnsupported);
  cudaGetLastError();
}
TEST_P(ConformanceStreams, ACaptureEndsWhereItBegan) {  // Runtime API, cudaStreamEndCapture
  const Memory x(1), three(3);
  const Stream a, b;
  const Event fork, join;
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(b.s, &graph), cudaErrorIllegalState);  // none began
  must(cudaStreamBeginCapture(a.s, cudaStreamCaptureModeThreadLocal));
  must(cudaEventRecord(fork.e, a.s));
  must(cudaStreamWaitEvent(b.s, fork.e, 0));
  twice_plus(x, three, b.s);
  must(cudaEventRecord(join.e, b.s));
  must(cudaStreamWaitEvent(a.s, join.e, 0));
  const Graph g(end_capture(a));
  cudaGetLastError();
  must(cudaGraphLaunch(g.exec, b.s));
  EXPECT_EQ(x.value(), 5u);
}

}  // namespace
}  // namespace cairn::kernels
