#!/usr/bin/env python3
"""Training and inference speed of cairn and its peers, in turns in one run, as a Markdown table and JSON lines.

    python bench/peers/compare_speed.py --cairn build/release/bin/model_speed --json speed.jsonl [--models resnet18 model_cnn]

Each job is a process of its own (model_speed, speed_torch.py), the input in memory, SGD with momentum for training. The peer's
modes are tried first, a round each, and the best one of each precision goes on: PyTorch's default layout, channels_last,
compiled, the best of these with a caching allocator (tcmalloc or jemalloc, where installed) and pinned threads; bf16 by
autocast, compiled or not; for inference frozen, with batch norm folded, and ONNX Runtime. Then cairn and that mode alternate.
Ratios are between medians over the rounds. Nothing else should run meanwhile; the load is printed.

Rows come in the order of their weight, and none is begun once --minutes are over: what was left out is named.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODES = {
    ("train", "fp32"): ["channels_last", "compiled", "default"],
    ("train", "bf16"): ["bf16", "compiled_bf16"],
    ("infer", "fp32"): ["channels_last", "onnxruntime"],
    ("infer", "bf16"): ["bf16"],
}
TUNED = "+tuned"
NAMES = {"resnet18": "ResNet-18", "model_cnn": "ModelCNN"}


def cpu_facts() -> tuple[str, set[str]]:
    facts = {}
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    return facts.get("model name", "unknown CPU"), set(facts.get("flags", "").split())


def tuned_environment() -> dict[str, str]:
    """A caching allocator where there is one, and threads that stay on their cores."""
    for pattern in ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libjemalloc.so.2"):
        for path in glob.glob(f"/usr/lib/*/{pattern}"):
            return {"LD_PRELOAD": path, "OMP_PROC_BIND": "true"}
    return {"OMP_PROC_BIND": "true"}


def run(command: list[str], environment: dict[str, str]) -> dict | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 0:
        print(f"left out: {' '.join(command[1:])}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:200]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


class Jobs:
    def __init__(self, options: argparse.Namespace):
        self.options = options

    def measure(self, who: str, mode: str, row: tuple[str, str, str, int]) -> dict | None:
        o = self.options
        model, job, _, batch = row
        command = ["--model", model, "--batch-size", str(batch), "--image-size", str(o.image_size), "--steps", str(o.steps), "--warmup", "1"]
        command += ["--infer"] if job == "infer" else []
        if who == "cairn":
            result = run([o.cairn, "--precision", mode, *command], {})
        else:
            plain, tuned = mode.removesuffix(TUNED), mode.endswith(TUNED)
            script = os.path.join(HERE, "speed_torch.py")
            result = run([sys.executable, script, "--mode", plain, *command], tuned_environment() if tuned else {})
        if result:
            result["mode"] = mode
            with open(o.json, "a", encoding="utf-8") as f:
                f.write(json.dumps(result) + "\n")
        return result

    def compare(self, row: tuple[str, str, str, int]) -> str | None:
        """A line of the table; None where a side failed."""
        _, job, precision, _ = row
        tried = {m: r for m in MODES[(job, precision)] if (r := self.measure("peer", m, row))}
        torch_modes = [m for m in tried if m != "onnxruntime"]
        if not torch_modes:
            return None
        best = max(torch_modes, key=lambda m: tried[m]["images_per_s_median"])
        if job == "train" and (r := self.measure("peer", best + TUNED, row)):
            tried[best + TUNED] = r
            best = max([best, best + TUNED], key=lambda m: tried[m]["images_per_s_median"])
        rounds = {"cairn": [self.measure("cairn", precision, row)], best: [tried[best]]}
        if "onnxruntime" in tried:
            rounds["onnxruntime"] = [tried["onnxruntime"]]
        for _ in range(self.options.rounds - 1):
            for who in [w for w in rounds if w != "cairn"]:
                rounds[who].append(self.measure("peer", who, row))
            rounds["cairn"].append(self.measure("cairn", precision, row))
        if any(r is None for results in rounds.values() for r in results):
            return None
        return self.line(row, best, rounds)

    @staticmethod
    def line(row: tuple[str, str, str, int], best: str, rounds: dict[str, list[dict]]) -> str:
        model, job, precision, batch = row

        def middle(who: str, key: str) -> float:
            return statistics.median(r[key] for r in rounds[who])

        def rate(who: str) -> str:
            return f"{middle(who, 'images_per_s_median'):.1f} ({max(r['images_per_s_best'] for r in rounds[who]):.1f})"

        def ratio(who: str) -> str:
            return f"{middle('cairn', 'images_per_s_median') / middle(who, 'images_per_s_median'):.2f}"

        onnx = f"{rate('onnxruntime')} | {ratio('onnxruntime')}" if "onnxruntime" in rounds else "|"
        memory = middle("cairn", "peak_rss_mb") / middle(best, "peak_rss_mb")
        # What a step takes, for the first one to be held against.
        step = batch / middle("cairn", "images_per_s_median")
        return (f"| {NAMES.get(model, model)} | {job} | {precision} | {batch} | {rate('cairn')} | {rate(best)}, {best} | {ratio(best)} | {onnx} "
                f"| {middle('cairn', 'peak_rss_mb'):.0f} / {middle(best, 'peak_rss_mb'):.0f} = {memory:.2f} "
                f"| {middle('cairn', 'ready_s'):.2f}, {middle('cairn', 'first_step_s'):.2f} (0.5 + 2 steps: {0.5 + 2 * step:.2f}) / {middle(best, 'first_step_s'):.2f} |")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True, help="bench/models/model_speed")
    p.add_argument("--models", nargs="+", default=["resnet18", "model_cnn"])
    p.add_argument("--jobs", nargs="+", choices=["train", "infer"], default=["train", "infer"])
    p.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], help="default: fp32, and bf16 for training where the CPU has it")
    p.add_argument("--train-batches", nargs="+", type=int, default=[32])
    p.add_argument("--infer-batches", nargs="+", type=int, default=[32, 1, 8, 128])
    p.add_argument("--image-size", type=int, default=224)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--steps", type=int, default=3, help="timed ones of a process, after two to warm up")
    p.add_argument("--minutes", type=float, default=10, help="begin no row after these; one takes up to 2")
    p.add_argument("--json", required=True, help="every single result is appended here")
    a = p.parse_args()

    cpu, flags = cpu_facts()
    has_bf16 = bool(flags & {"avx512_bf16", "amx_bf16"})
    batches = {"train": a.train_batches, "infer": a.infer_batches}
    rows = []
    for precision in a.precisions or (["fp32", "bf16"] if has_bf16 else ["fp32"]):
        for job in a.jobs:
            if job == "infer" and precision == "bf16" and not a.precisions:
                continue
            rows += [(model, job, precision, batch) for batch in batches[job] for model in a.models]
    isa = "AMX" if "amx_bf16" in flags else "AVX-512 with bf16, no AMX" if has_bf16 else "no bf16"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    print(f"{cpu} ({isa}{f', oneDNN up to {limit}' if limit else ''}), {len(os.sched_getaffinity(0))} cores, {a.image_size}x{a.image_size}, "
          f"medians of {a.rounds} rounds of {a.steps} steps (best in brackets), load {os.getloadavg()[0]:.1f} before\n")
    print("| model | job | precision | batch | cairn images/s | PyTorch images/s, its best mode | ratio | ONNX Runtime images/s | ratio "
          "| peak MB, cairn / PyTorch | first step of cairn begins, ends after s / PyTorch's ends |")
    print("| --- " * 11 + "|")
    begin, left_out = time.monotonic(), []
    jobs = Jobs(a)
    for row in rows:
        if time.monotonic() - begin > 60 * a.minutes:
            left_out.append(" ".join(str(part) for part in row))
        elif line := jobs.compare(row):
            print(line, flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} after, {(time.monotonic() - begin) / 60:.1f} minutes")
    if left_out:
        print(f"\nNot begun within {a.minutes:g} minutes (--minutes): {'; '.join(left_out)}.")


if __name__ == "__main__":
    main()
