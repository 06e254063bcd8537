#!/usr/bin/env python3
"""Trains cairn and PyTorch (accuracy.py) by one recipe on the same manifests, and prints the comparison as Markdown.

For each seed `cairn split` (or, under oversample-first, cairn's own training run) makes a split.csv; cairn trains on it
with its defaults, and the peer with the options that cairn wrote to config.json. Results are appended to --results, one
JSON object a line, and what is there already is not run again, so that the comparison can be stopped and continued.

    python bench/peers/compare_accuracy.py --cairn build/release/bin/cairn --data data-demo --models model_cnn resnet18 \
        --image-size 64 --results accuracy.jsonl
"""
import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
T_975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]  # Student's t, 1 to 9 degrees of freedom
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")


def run(command: list[str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def train_pair(a: argparse.Namespace, model: str, seed: int, folder: str, found: dict) -> None:
    """Runs what of cairn and the peer is missing for one model and seed."""
    out = os.path.join(folder, f"{a.protocol}-{model}-{seed}")
    key = (model, seed)
    extra = ["--protocol", a.protocol, "--threads", str(a.threads), "--precision", a.precision]
    if a.epochs:
        extra += ["--epochs", str(a.epochs)]
    split = os.path.join(out, "split.csv")
    if ("cairn", *key) not in found or (a.peer and ("pytorch", *key) not in found and not os.path.exists(split)):
        result = run([a.cairn, "train", "--data", a.data, "--model", model, "--seed", str(seed), "--image-size", str(a.image_size),
                      "--out", out, "--json", *extra])
        save(a, "cairn", model, seed, result, found)
    if not a.peer or model == "resnet_classes" or ("pytorch", *key) in found:
        return
    with open(os.path.join(out, "config.json"), encoding="utf-8") as f:
        o = json.load(f)
        o = o.get("options", o)
    command = [sys.executable, os.path.join(HERE, "accuracy.py"), "--data", a.data, "--split", split, "--model", model, "--seed", str(seed),
               "--image-size", str(a.image_size)]
    for name in ("epochs", "batch-size", "optimizer", "lr", "momentum", "weight-decay", "schedule", "warmup-epochs", "label-smoothing",
                 "augment", "balance", "patience"):
        command += ["--" + name, str(o[name])]
    command += ["--bf16"] if a.precision == "bf16" else []
    save(a, "pytorch", model, seed, run(command), found)


def save(a: argparse.Namespace, who: str, model: str, seed: int, result: dict, found: dict) -> None:
    row = {"who": who, "model": model, "seed": seed, "train_loss": result["train_loss"], "val": result["val"], "test": result["test"]}
    found[(who, model, seed)] = row
    with open(a.results, "a", encoding="utf-8") as f:
        f.write(json.dumps(row) + "\n")


def mean_and_interval(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, float("nan")
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, T_975[len(values) - 2] * deviation / math.sqrt(len(values))


def majority(folder: str, protocol: str, model: str, seeds: list[int]) -> list[float]:
    shares = []
    for seed in seeds:
        with open(os.path.join(folder, f"{protocol}-{model}-{seed}", "split.csv"), newline="", encoding="utf-8") as f:
            test = Counter(r["class"] for r in csv.DictReader(f) if r["part"] == "test")
        shares.append(max(test.values()) / sum(test.values()))
    return shares


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--models", nargs="+", default=["model_cnn", "resnet18", "resnet_classes"])
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--image-size", type=int, default=224)
    p.add_argument("--protocol", choices=["split-first", "oversample-first"], default="split-first")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--epochs", type=int, default=0, help="0: the model's default")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--no-peer", dest="peer", action="store_false", help="cairn alone")
    p.add_argument("--results", required=True)
    p.add_argument("--runs", help="where run directories go; default: a temporary folder")
    a = p.parse_args()
    if a.threads:
        os.environ["OMP_NUM_THREADS"] = str(a.threads)

    found: dict = {}
    if os.path.exists(a.results):
        with open(a.results, encoding="utf-8") as f:
            for row in map(json.loads, f):
                found[(row["who"], row["model"], row["seed"])] = row
    folder = a.runs or tempfile.mkdtemp(prefix="cairn-accuracy-")
    os.makedirs(folder, exist_ok=True)
    for seed in range(a.seeds):
        for model in a.models:
            train_pair(a, model, seed, folder, found)

    print("| model | who | splits | " + " | ".join(FIGURES) + " |\n| --- | --- | --- | " + "--- | " * len(FIGURES))
    shares = majority(folder, a.protocol, a.models[0], range(a.seeds))
    print(f"| always the largest class | | {a.seeds} | {mean_and_interval(shares)[0]:.3f} | | |")
    for model in a.models:
        for who in ("cairn", "pytorch"):
            rows = [found[(who, model, s)] for s in range(a.seeds) if (who, model, s) in found]
            if rows:
                cells = ["{:.3f} ± {:.3f}".format(*mean_and_interval([r["test"][k] for r in rows])) for k in FIGURES]
                print(f"| {model} | {who} | {len(rows)} | " + " | ".join(cells) + " |")
        pairs = [(found[("cairn", model, s)], found[("pytorch", model, s)]) for s in range(a.seeds)
                 if ("cairn", model, s) in found and ("pytorch", model, s) in found]
        if pairs:
            cells = ["{:+.3f} ± {:.3f}".format(*mean_and_interval([c["test"][k] - t["test"][k] for c, t in pairs])) for k in FIGURES]
            print(f"| {model} | cairn - pytorch, paired | {len(pairs)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
