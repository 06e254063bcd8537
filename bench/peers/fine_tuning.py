"""Does starting from weights of other pictures beat starting from nothing, at equal time?

ResNet-18 is trained on the clip-art categories of the large set that the demo set does not have; then, for each
seed, on the demo set from scratch and from those weights, for the same number of epochs on the same split. Only
the standard library and the program are used. Prints the table of docs/fine-tuning.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cairn {' '.join(map(str, arguments))}\nfailed:\n{done.stderr[-2000:]}")
    return done.stdout


def trained(program, out, *arguments):
    result = json.loads(run(program, "train", "--out", out, "--json", "--quiet", *arguments).splitlines()[-1])
    epochs = [json.loads(line) for line in open(pathlib.Path(out, "metrics.jsonl"))]
    result["seconds"] = sum(e["seconds"] for e in epochs if e["kind"] == "epoch")
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True, help="the demo set")
    p.add_argument("--large", required=True, help="the large set")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--pretrain-epochs", type=int, default=12)
    p.add_argument("--image-size", type=int, default=64)
    p.add_argument("--fine-tune", default="--lr-scale layer*=0.3 --ema 0.99", help="options of the fine-tuned runs alone")
    p.add_argument("--threads", type=int, default=0)
    o = p.parse_args()
    common = ["--model", "resnet18", "--image-size", o.image_size, "--augment", "light", "--threads", o.threads]

    with tempfile.TemporaryDirectory() as work:
        # Other categories: folders of the large set whose names the demo set does not have.
        others = pathlib.Path(work, "others")
        others.mkdir()
        known = {d.name for d in pathlib.Path(o.data).iterdir()}
        for d in sorted(pathlib.Path(o.large).iterdir()):
            if d.is_dir() and d.name not in known:
                os.symlink(d.resolve(), others / d.name)
        first = trained(o.cairn, f"{work}/first", "--data", others, "--epochs", o.pretrain_epochs, *common)
        print(f"first: {sorted(d.name for d in others.iterdir())}, {first['steps']} steps, {first['seconds']:.0f} s, "
              f"test balanced accuracy {first['test']['balanced_accuracy']:.3f}")

        rows = {"from scratch": [], "fine-tuned": []}
        for seed in range(o.seeds):
            split = f"{work}/split-{seed}.csv"
            run(o.cairn, "split", o.data, "--out", split, "--seed", seed)
            same = ["--data", o.data, "--split", split, "--epochs", o.epochs, "--seed", seed, *common]
            rows["from scratch"].append(trained(o.cairn, f"{work}/scratch-{seed}", *same))
            rows["fine-tuned"].append(trained(o.cairn, f"{work}/tuned-{seed}", *same, "--init",
                                              f"{work}/first/checkpoints/best.safetensors", *o.fine_tune.split()))

        names = ("balanced_accuracy", "macro_f1", "accuracy")
        print("| | seconds | balanced accuracy | macro F1 | accuracy | balanced accuracy, seed by seed |")
        print("| --- | --- | --- | --- | --- | --- |")
        for who, results in rows.items():
            scores = [f"{statistics.mean(r['test'][n] for r in results):.3f}" for n in names]
            each = ", ".join(f"{r['test']['balanced_accuracy']:.3f}" for r in results)
            print(f"| {who} | {statistics.mean(r['seconds'] for r in results):.0f} | {' | '.join(scores)} | {each} |")
        pairs = [t["test"]["balanced_accuracy"] - s["test"]["balanced_accuracy"]
                 for s, t in zip(rows["from scratch"], rows["fine-tuned"])]
        print("fine-tuned - from scratch, balanced accuracy:", ", ".join(f"{d:+.3f}" for d in pairs))


if __name__ == "__main__":
    main()
