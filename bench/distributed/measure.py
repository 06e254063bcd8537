"""Trains by one and by several processes in turns, so that all see the same machine, and measures the exchange alone.
Only Python's own library. One JSON object a line: kind "train" (processes, threads, images_per_s, ...), "exchange" and
"load"."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

CLASSES = 7


def mpirun(processes):
    """Each process is tied to a core where there are enough, as mpirun does by itself."""
    if processes == 1:
        return []
    tied = "core" if processes <= (os.cpu_count() or 1) else "none"
    return ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", tied, "-n", str(processes)]


def make_images(folder, size, images):
    """PNM files of noise: cheap to decode, so that what is timed is the training."""
    noise = random.Random(1)
    for i in range(images):
        path = folder / f"c{i % CLASSES}" / f"{i}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"P6 %d %d 255\n" % (size, size) + noise.randbytes(size * size * 3))


def train(options, data, runs, processes, threads, number):
    command = mpirun(processes) + [
        str(options.bin / "cairn"), "train", "--data", str(data), "--split", str(data / "split.csv"), "--out", str(runs / str(number)),
        "--model", options.model, "--image-size", str(options.image_size), "--batch-size", str(options.batch_size),
        "--threads", str(threads), "--workers", "1", "--precision", "fp32", "--augment", "light", "--device", "cpu",
        "--epochs", "1", "--max-steps", str(options.steps), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return {"kind": "train", "model": options.model, "processes": processes, "threads": threads,
            "batch": options.batch_size, "image_size": options.image_size, "images_per_s": result["images_per_s"],
            "data_wait": result["data_wait"], "cores": os.cpu_count()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=224)
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        data, runs = pathlib.Path(scratch) / "data", pathlib.Path(scratch) / "runs"
        # Enough for the steps, and few to validate.
        images = options.batch_size * options.steps + CLASSES * 4
        make_images(data, options.image_size, images)
        rows = ["path,class,part,hash,duplicate_group"]
        for i, path in enumerate(sorted(data.rglob("*.ppm"))):
            part = "val" if i % (images // 14) == 0 else "train"
            rows.append(f"{path.relative_to(data)},{path.parent.name},{part},{i:032x},")
        (data / "split.csv").write_text("\n".join(rows) + "\n")
        number = 0
        for _ in range(options.rounds):
            for processes, threads in ((1, 1), (1, 2), (2, 1), (4, 1)):
                number += 1
                lines.append(train(options, data, runs, processes, threads, number))
                print(json.dumps(lines[-1]), flush=True)
        for processes in (2, 4):
            command = mpirun(processes) + [str(options.bin / "exchange_cost")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            lines.append({"kind": "exchange", **json.loads(done.stdout)})
            print(json.dumps(lines[-1]), flush=True)
        loaded = subprocess.run([str(options.bin / "cairn"), "inspect", str(data), "--speed", "--json"], capture_output=True, text=True)
        if loaded.returncode == 0:
            lines.append({"kind": "load", "result": json.loads(loaded.stdout.strip().splitlines()[-1]).get("speed")})
    options.out.write_text("".join(json.dumps(line) + "\n" for line in lines))


main()
