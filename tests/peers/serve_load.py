"""Load on `cairn serve`: 64 clients at once, a tenth of them slow, broken or sending garbage.

    python3 tests/peers/serve_load.py --cairn build/release/bin/cairn --seconds 120 --weights W.safetensors IMAGE...

Starts the service itself, checks that every request that can be answered is answered (200 with what `cairn predict`
says of the file, to 1e-4, and how often to the last bit; 400, 408, 413 or 503 where that is due), reads memory and threads from /proc, and
ends it with SIGTERM. Prints one JSON object; exit status 1 when a promise was broken. Standard library alone.
"""
import argparse, http.client, json, os, random, signal, socket, subprocess, sys, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("--cairn", default="build/release/bin/cairn")
parser.add_argument("--seconds", type=float, default=30)
parser.add_argument("--clients", type=int, default=64)
parser.add_argument("--run")
parser.add_argument("--weights")
parser.add_argument("images", nargs="+")
options = parser.parse_args()

source = ["--run", options.run] if options.run else ["--weights", options.weights]
predicted = subprocess.run([options.cairn, "predict", "--device", "cpu", "--json", "--logits", *source, *options.images],
                           check=True, capture_output=True, text=True).stdout
expected = {}
for text in predicted.splitlines():
    answer = json.loads(text)
    expected[answer.pop("path")] = answer
files = {path: open(path, "rb").read() for path in expected}
paths = sorted(files)

READ_TIMEOUT = 2
service = subprocess.Popen([options.cairn, "serve", "--device", "cpu", "--port", "0", "--json", "--read-timeout",
                            str(READ_TIMEOUT), "--timeout", "10", *source], stdout=subprocess.PIPE, text=True)
port = json.loads(service.stdout.readline())["port"]


def of_process(name):
    with open(f"/proc/{service.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))


lock = threading.Lock()
latencies, same_bits, statuses, problems, kinds = [], [], {}, [], {}
end = time.monotonic() + options.seconds


def note(kind, status, problem=None):
    with lock:
        kinds[kind] = kinds.get(kind, 0) + 1
        statuses[str(status)] = statuses.get(str(status), 0) + 1
        if problem:
            problems.append(f"{kind}: {problem}")


def good(client, chance):
    connection, used = None, 0.0
    while time.monotonic() < end:
        path = chance.choice(paths)
        if connection and time.monotonic() - used > READ_TIMEOUT / 2:  # about to be closed: no client relies on it
            connection.close()
            connection = None
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            start = time.monotonic()
            connection.request("POST", "/predict?logits=1", files[path])
            response = connection.getresponse()
            body = response.read()
            used = time.monotonic()
            seconds = used - start
        except Exception as error:
            note("good", "none", f"no answer: {error!r}")
            connection = None
            continue
        if response.status == 200:
            answer, want = json.loads(body), expected[path]
            near = all(abs(a - b) <= 1e-4 * max(1, abs(b)) for a, b in zip(answer["logits"], want["logits"], strict=True))
            with lock:
                latencies.append(seconds)
                same_bits.append(answer == want)
            note("good", 200, None if near else f"{path}: {body[:200]} is not what predict says")
        elif response.status == 503 and response.getheader("Retry-After"):
            note("good", 503)
            time.sleep(0.1)
        else:
            note("good", response.status, body[:200])
        if response.getheader("Connection") == "close":
            connection.close()
            connection = None


def raw(kind, wanted, parts, pause=0.0, reads=True):
    """Sends the parts with pauses between them; the status must be a wanted one."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            try:
                for part in parts:
                    s.sendall(part)
                    time.sleep(pause)
            except OSError:
                pass  # cut off: the answer is there to be read
            if not reads:
                note(kind, "left")
                return
            head = b""
            while b"\r\n" not in head:
                more = s.recv(4096)
                if not more:
                    break
                head += more
            status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else "none"
            note(kind, status, None if status in wanted else f"answered {status}, expected one of {wanted}")
    except OSError as error:
        note(kind, "none", repr(error))


def post(body):
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def bad(client, chance):
    tricks = ["slow", "stalled", "garbage", "not an image", "truncated image", "oversized", "gone", "reset", "silent"]
    turn = client
    while time.monotonic() < end:
        trick = tricks[turn % len(tricks)]
        turn += 1
        image = files[chance.choice(paths)]
        request = post(image)
        if trick == "slow":  # arrives in the end, piece by piece
            step = len(request) // 8 + 1
            raw(trick, {200, 503}, [request[i:i + step] for i in range(0, len(request), step)], 0.3)
        elif trick == "stalled":
            raw(trick, {408, 503}, [request[:len(request) // 2]])
        elif trick == "garbage":
            raw(trick, {400, 414, 431, 503}, [chance.randbytes(2000) + b"\r\n\r\n"])
        elif trick == "not an image":
            raw(trick, {400, 503}, [post(chance.randbytes(5000))])
        elif trick == "truncated image":
            raw(trick, {400, 503}, [post(image[:len(image) // 2])])
        elif trick == "oversized":
            raw(trick, {413, 503}, [b"POST /predict HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n", b"x" * 50_000_000])
        elif trick == "gone":  # asks and does not wait
            raw(trick, set(), [request], reads=False)
        elif trick == "reset":  # goes in mid-request
            raw(trick, set(), [request[:len(request) // 2]], reads=False)
        else:  # connects, and says nothing
            with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
                note(trick, "closed", None if s.recv(1) == b"" else "was told something")


n_bad = max(1, round(options.clients / 10))
threads = [threading.Thread(target=bad if i < n_bad else good, args=(i, random.Random(i))) for i in range(options.clients)]
rss = [of_process("VmRSS")]
for thread in threads:
    thread.start()
begin = time.monotonic()
most_threads = 0
while any(thread.is_alive() for thread in threads):
    time.sleep(1)
    if service.poll() is not None:
        problems.append(f"the service ended with {service.returncode}")
        break
    rss.append(of_process("VmRSS"))
    most_threads = max(most_threads, of_process("Threads"))
for thread in threads:
    thread.join()
seconds = time.monotonic() - begin
if service.poll() is None:
    time.sleep(READ_TIMEOUT + 1)
    rss.append(of_process("VmRSS"))
    metrics = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    metrics.request("GET", "/metrics")
    text = metrics.getresponse().read().decode()
    metrics.close()
    figure = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}
    if figure["cairn_queue_length"] != 0:
        problems.append("the queue is not empty at the end")
    service.send_signal(signal.SIGTERM)
    if service.wait(30) != 0:
        problems.append(f"exit status {service.returncode}")
third = len(rss) // 3
latencies.sort()
print(json.dumps({
    "seconds": round(seconds, 1), "clients": options.clients, "of_these_bad": n_bad, "requests": kinds,
    "statuses": statuses, "answers_per_s": round(len(latencies) / seconds, 1),
    "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
    "p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 1), "max_ms": round(1000 * latencies[-1], 1),
    "same_bits_as_predict": round(sum(same_bits) / len(same_bits), 4),
    "images_a_batch": round(figure["cairn_batch_images_sum"] / figure["cairn_batch_images_count"], 1),
    "rss_mb": {"start": rss[0] >> 10, "after_a_third": rss[third] >> 10, "after_two_thirds": rss[2 * third] >> 10,
               "most": max(rss) >> 10, "end": rss[-1] >> 10},
    "most_threads": most_threads, "problems": problems[:20], "problem_count": len(problems)}))
sys.exit(1 if problems else 0)
