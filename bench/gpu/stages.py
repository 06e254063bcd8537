"""Stages of scripts/gpu-acceptance: a command with a time limit and a log, and what is told of it."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

LONGEST_S = 600  # of any stage


class Machine:
    """Where programs and libraries lie, and the device they run on."""

    def __init__(self, root: pathlib.Path, out: pathlib.Path, emulated: bool):
        self.root, self.out, self.emulated = root, out, emulated
        self.bundled = (root / "BUNDLE.json").exists()
        self.preset = "cuda-emu" if emulated else "cuda"
        build = root if self.bundled else root / "build" / self.preset
        self.bin, self.lib = build / "bin", build / "lib"
        self.device = "cuda-emu" if emulated else "cuda"
        self.environment = dict(os.environ, CAIRN_CACHE=str(out / "plans"))
        if self.bundled:
            self.environment["LD_LIBRARY_PATH"] = f"{self.lib}:" + os.environ.get("LD_LIBRARY_PATH", "")

    def program(self, name: str) -> str:
        return str(self.bin / name)

    def tests(self, part: str) -> str:
        """The emulated build's programs of the same sources have names of their own."""
        names = {"conformance": "emu_tests"} if self.emulated else {}
        return self.program(names.get(part, f"{'emu' if self.emulated else 'gpu'}_{part}_tests"))


class Stage:
    def __init__(self, name: str, status: str = "left out", detail: str = ""):
        self.name, self.status, self.detail, self.seconds = name, status, detail, 0.0
        self.data = None  # what was measured
        self.output = ""

    def as_json(self) -> dict:
        result = {"stage": self.name, "status": self.status, "detail": self.detail, "seconds": round(self.seconds, 1)}
        return result if self.data is None else result | {"data": self.data}


def end(process: subprocess.Popen) -> None:
    """The process and its children, which share its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def run(machine: Machine, name: str, command: list, limit_s: float = LONGEST_S, environment: dict | None = None, own: bool = True) -> Stage:
    """Runs the command; passed means status 0 within the limit. `own`: with cairn's libraries in reach."""
    stage = Stage(name, "passed")
    log = machine.out / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.log"
    begin = time.monotonic()
    base = machine.environment if own else os.environ
    with open(log, "w", encoding="utf-8", errors="replace") as file:
        file.write("$ " + " ".join(map(str, command)) + "\n")
        file.flush()
        try:
            process = subprocess.Popen([str(c) for c in command], stdout=file, stderr=subprocess.STDOUT, cwd=machine.root,
                                       env=dict(base, **(environment or {})), start_new_session=True)
        except OSError as error:
            stage.status, stage.detail = "failed", str(error)
            return stage
        try:
            status = process.wait(min(limit_s, LONGEST_S))
            if status != 0:
                stage.status, stage.detail = "failed", f"status {status}, see {log.name}"
        except subprocess.TimeoutExpired:
            end(process)
            stage.status, stage.detail = "failed", f"not done after {limit_s:.0f} s, see {log.name}"
        except BaseException:
            end(process)
            raise
    stage.seconds = time.monotonic() - begin
    stage.output = log.read_text(encoding="utf-8", errors="replace").split("\n", 1)[1]
    return stage


def run_tests(machine: Machine, name: str, program: str, filters: str = "*", limit_s: float = LONGEST_S, prefix: list | None = None,
              environment: dict | None = None) -> Stage:
    """A GoogleTest program: passed if tests ran, none failed and none was skipped for want of a GPU."""
    stage = run(machine, name, (prefix or []) + [program, f"--gtest_filter={filters}", "--gtest_brief=1"], limit_s, environment)
    ran = re.search(r"\[==========\] (\d+) tests? from", stage.output)
    passed = re.search(r"\[  PASSED  \] (\d+) test", stage.output)
    skipped = re.search(r"\[  SKIPPED \] (\d+) test", stage.output)
    stage.data = {"passed": int(passed[1]) if passed else 0, "skipped": int(skipped[1]) if skipped else 0}
    if stage.status == "passed" and (not ran or stage.data["passed"] == 0):
        stage.status, stage.detail = "failed", "no test ran"
    elif stage.status == "passed":
        stage.detail = f"{stage.data['passed']} tests" + (f", {stage.data['skipped']} skipped" if stage.data["skipped"] else "")
    elif re.search(r"\[  FAILED  \] (\d+) test", stage.output):
        stage.detail = re.search(r"\[  FAILED  \] (\d+) test", stage.output)[1] + f" tests failed; {stage.detail}"
    return stage


class Clocks:
    """What nvidia-smi shows while something is measured: clocks, temperature, power, utilisation, every fifth of a second."""

    FIELDS = ["clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "utilization.gpu"]

    def __init__(self, emulated: bool):
        self.lines, self.process = [], None
        if emulated or not shutil.which("nvidia-smi"):
            return
        self.process = subprocess.Popen(["nvidia-smi", "--id=0", "--query-gpu=" + ",".join(self.FIELDS), "--format=csv,noheader,nounits", "-lms", "200"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        self.thread = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.thread.start()

    def read(self) -> dict | None:
        if self.process:
            end(self.process)
            self.thread.join(5)
        return summary_of_clocks(self.lines)


def summary_of_clocks(lines: list) -> dict | None:
    rows = []
    for line in lines:
        try:
            rows.append([float(value) for value in line.split(",")])
        except ValueError:  # "[N/A]", or a line that was cut
            continue
    rows = [row for row in rows if len(row) == len(Clocks.FIELDS)]
    if not rows:
        return None
    columns = list(zip(*rows))
    return {field: {"min": min(column), "max": max(column)} for field, column in zip(Clocks.FIELDS, columns)}


def json_lines(text: str) -> list:
    import json

    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found
