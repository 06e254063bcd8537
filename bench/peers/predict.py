#!/usr/bin/env python3
"""Images a second from files to class probabilities: `cairn predict` against the same model in PyTorch, in one run.

    python bench/peers/predict.py --cairn build/release/bin/cairn --data FOLDER_OF_CLASS_FOLDERS_OF_JPEGS

Both have the same weights, and their classes are compared. PyTorch: inference frozen and traced with batch norm folded,
channels_last, fp32 and bf16, fed by torchvision's ImageFolder and DataLoader for each number of workers asked for; its
importing, tracing and first pass are not counted. cairn: the whole command as a user types it, with process start,
reading of the weights, and writing of the answers. Rounds alternate; a Markdown table at the end."""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import torch
from safetensors.torch import save_file
from torchvision import datasets, transforms

from models import make_model


def torch_epoch(model, loader, dtype):
    begin, classes = time.perf_counter(), []
    with torch.inference_mode():
        for images, _ in loader:
            logits = model(images.to(dtype).contiguous(memory_format=torch.channels_last))
            classes += torch.softmax(logits.float(), 1).argmax(1).tolist()
    return time.perf_counter() - begin, classes


def cairn_epoch(a, weights, classes, model, paths, decode):
    command = [a.cairn, "predict", "--weights", weights, "--model", model, "--classes", classes, "--image-size", "224"]
    command += ["--mean", "0.5", "--std", "0.5"]
    command += ["--device", "cpu", "--threads", str(a.threads), "--decode", decode, "--quiet", "--json", "-"]
    begin = time.perf_counter()
    done = subprocess.run(command, input="\n".join(paths) + "\n", text=True, capture_output=True, check=True)
    seconds = time.perf_counter() - begin
    answers = {answer["path"]: answer["class"] for answer in map(json.loads, done.stdout.splitlines())}
    return seconds, [answers[path] for path in paths]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--models", default="resnet18,model_cnn")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--workers", default="1,2", help="torchvision's, comma-separated")
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    steps = [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    folder = datasets.ImageFolder(a.data, transforms.Compose(steps))
    paths = [path for path, _ in folder.samples]
    print(f"| model | engine | mode | best images/s | median | median / PyTorch's best mode | same class as PyTorch fp32, of {len(paths)} |")
    print("|---|---|---|---|---|---|---|")
    for name in a.models.split(","):
        torch.manual_seed(0)
        model = make_model(name, 7, 224).eval().to(memory_format=torch.channels_last)
        with tempfile.TemporaryDirectory() as scratch:
            weights, classes = os.path.join(scratch, "w.safetensors"), os.path.join(scratch, "classes.txt")
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
            with open(classes, "w") as file:
                file.writelines(f"{c}\n" for c in range(7))
            x = torch.rand(32, 3, 224, 224).contiguous(memory_format=torch.channels_last)
            runs = {}
            for dtype in (torch.float32, torch.bfloat16):
                with torch.inference_mode():
                    traced = torch.jit.trace(model.to(dtype), x.to(dtype), check_trace=False)
                    frozen = torch.jit.optimize_for_inference(traced)
                    frozen(x.to(dtype)), frozen(x.to(dtype))
                for workers in map(int, a.workers.split(",")):
                    loader = torch.utils.data.DataLoader(folder, 32, num_workers=workers, persistent_workers=True)
                    next(iter(loader))
                    mode = f"{str(dtype)[6:]}, {workers} workers"
                    runs["PyTorch", mode] = lambda m=frozen, lo=loader, d=dtype: torch_epoch(m, lo, d)
            for decode in ("exact", "fast"):
                run = lambda d=decode: cairn_epoch(a, weights, classes, name, paths, d)  # noqa: E731
                runs["cairn", f"--decode {decode}"] = run
            seconds, said = {key: [] for key in runs}, {}
            for _ in range(a.rounds):
                for key, run in runs.items():
                    took, answers = run()
                    seconds[key].append(took)
                    said[key] = [int(answer) for answer in answers]
            reference = said["PyTorch", f"float32, {a.workers.split(',')[0]} workers"]
            rate = {key: len(paths) / statistics.median(times) for key, times in seconds.items()}
            peer = max(value for (engine, _), value in rate.items() if engine == "PyTorch")
            for (engine, mode), times in seconds.items():
                key = engine, mode
                same = sum(x == y for x, y in zip(reference, said[key]))
                row = [name, *key, f"{len(paths) / min(times):.1f}", f"{rate[key]:.1f}", f"{rate[key] / peer:.2f}", str(same)]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
