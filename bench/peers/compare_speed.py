#!/usr/bin/env python3
"""Training and inference speed of cairn and PyTorch, in turns in one run, as a Markdown table and JSON lines.

    python bench/peers/compare_speed.py --cairn build/release/bin/model_speed --json speed.jsonl [--models resnet18 model_cnn]

Each job is a process of its own (model_speed, speed_torch.py), the input in memory, SGD with momentum for training. The modes
of PyTorch are tried once, and the best one of each precision class goes on: fp32 (default, channels_last, compiled, with
tcmalloc or jemalloc where LD_PRELOAD names one) and bf16 (autocast, compiled autocast; inference frozen, with batch norm
folded; ONNX Runtime where it is installed). Then cairn and that mode alternate for --rounds rounds. Ratios are between medians
over the rounds; nothing else should run meanwhile, and the load is printed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MODES = {
    (False, "fp32"): ["default", "channels_last", "compiled"],
    (False, "bf16"): ["bf16", "compiled_bf16"],
    (True, "fp32"): ["channels_last", "onnxruntime"],
    (True, "bf16"): ["bf16"],
}


def run(command: list[str]) -> dict | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"left out: {' '.join(command[1:])}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:200]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True, help="bench/models/model_speed")
    p.add_argument("--models", nargs="+", default=["resnet18", "model_cnn"])
    p.add_argument("--jobs", nargs="+", choices=["train", "infer"], default=["train", "infer"])
    p.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    p.add_argument("--train-batches", nargs="+", type=int, default=[32])
    p.add_argument("--infer-batches", nargs="+", type=int, default=[1, 8, 32, 128])
    p.add_argument("--image-size", type=int, default=224)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--json", required=True, help="every single result is appended here")
    a = p.parse_args()

    def measure(who: str, mode: str, model: str, batch: int, infer: bool) -> dict | None:
        tail = ["--model", model, "--batch-size", str(batch), "--image-size", str(a.image_size), "--steps", str(a.steps)]
        tail += ["--infer"] if infer else []
        if who == "cairn":
            result = run([a.cairn, "--precision", mode, *tail])
        else:
            result = run([sys.executable, os.path.join(HERE, "speed_torch.py"), "--mode", mode, *tail])
        if result:
            with open(a.json, "a", encoding="utf-8") as f:
                f.write(json.dumps(result) + "\n")
        return result

    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown CPU")
    print(f"{cpu}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} before\n")
    print("| model | job | precision | batch | cairn images/s, median (best) | PyTorch's best mode | images/s, median (best) | ratio | peak MB, cairn / PyTorch | first step s, cairn / PyTorch |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for model in a.models:
        for job in a.jobs:
            infer = job == "infer"
            for precision in a.precisions:
                for batch in a.infer_batches if infer else a.train_batches:
                    tried = {m: r for m in MODES[(infer, precision)] if (r := measure("torch", m, model, batch, infer))}
                    if not tried:
                        continue
                    mode = max(tried, key=lambda m: tried[m]["images_per_s_median"])
                    ours, theirs = [], []
                    for _ in range(a.rounds):
                        ours.append(measure("cairn", precision, model, batch, infer))
                        theirs.append(measure("torch", mode, model, batch, infer))
                    if None in ours or None in theirs:
                        continue

                    def middle(rows: list, key: str) -> float:
                        return statistics.median(r[key] for r in rows)

                    def best(rows: list) -> float:
                        return max(r["images_per_s_best"] for r in rows)

                    ratio = middle(ours, "images_per_s_median") / middle(theirs, "images_per_s_median")
                    print(f"| {model} | {job} | {precision} | {batch} | {middle(ours, 'images_per_s_median'):.1f} ({best(ours):.1f}) | {mode} "
                          f"| {middle(theirs, 'images_per_s_median'):.1f} ({best(theirs):.1f}) | {ratio:.2f} "
                          f"| {middle(ours, 'peak_rss_mb'):.0f} / {middle(theirs, 'peak_rss_mb'):.0f} "
                          f"| {middle(ours, 'first_step_s'):.2f} / {middle(theirs, 'first_step_s'):.2f} |", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
