#!/usr/bin/env python3
"""Images a second from files to class probabilities: `cairn predict` against the same model in PyTorch, in one run.

    python bench/peers/predict.py --cairn build/release/bin/cairn --data FOLDER_OF_CLASS_FOLDERS_OF_JPEGS

Both have the same weights, and their classes are compared. PyTorch: inference frozen and traced with batch norm folded,
channels_last, fp32 and bf16, fed by torchvision's ImageFolder and DataLoader for each number of workers asked for. cairn: the
command as a user types it. Two tables: of images a second once all is started, which for PyTorch is an epoch behind importing,
tracing and a first pass, and for cairn what the same images once more in its list add to its time; and of the whole program,
from its start to its end, for PyTorch in its best dtype, frozen and eager. Rounds alternate; medians."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file
from torchvision import datasets, transforms

from models import make_model

BATCH = 32


def image_folder(root):
    steps = [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    return datasets.ImageFolder(root, transforms.Compose(steps))


def frozen(model, dtype):
    x = torch.rand(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last).to(dtype)
    with torch.inference_mode():
        traced = torch.jit.optimize_for_inference(torch.jit.trace(model.to(dtype), x, check_trace=False))
        traced(x), traced(x)
    return traced


def torch_epoch(model, loader, dtype):
    begin, classes = time.perf_counter(), []
    with torch.inference_mode():
        for images, _ in loader:
            logits = model(images.to(dtype).contiguous(memory_format=torch.channels_last))
            classes += torch.softmax(logits.float(), 1).argmax(1).tolist()
    return time.perf_counter() - begin, classes


def whole_torch_program(a):
    """What the process that --whole asks for does; its time is taken from outside."""
    name, mode, dtype, workers, weights = a.whole.split(",")
    dtype = getattr(torch, dtype)
    torch.set_num_threads(a.threads)
    model = make_model(name, 7, 224).eval()
    model.load_state_dict(load_file(weights))
    model = model.to(memory_format=torch.channels_last)
    model = frozen(model, dtype) if mode == "frozen" else model.to(dtype)
    loader = torch.utils.data.DataLoader(image_folder(a.data), BATCH, num_workers=int(workers))
    print(json.dumps(torch_epoch(model, loader, dtype)[1]))


def timed(command, **options):
    begin = time.perf_counter()
    done = subprocess.run(command, text=True, capture_output=True, check=True, **options)
    return time.perf_counter() - begin, done.stdout


def cairn_run(a, name, weights, classes, options, paths):
    command = [a.cairn, "predict", "--weights", weights, "--model", name, "--classes", classes, "--image-size", "224",
               "--mean", "0.5", "--std", "0.5", "--device", "cpu", "--threads", str(a.threads), "--quiet", "--json", *options, "-"]
    seconds, said = timed(command, input="\n".join(paths) + "\n")
    answers = {answer["path"]: answer["class"] for answer in map(json.loads, said.splitlines())}
    return seconds, [int(answers[path]) for path in paths]


def bf16_modes():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return ["bf16"] if {"avx512_bf16", "amx_bf16"} & set(flags) else []


def row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def compare(a, name, folder, scratch):
    paths = [path for path, _ in folder.samples]
    torch.manual_seed(0)
    model = make_model(name, 7, 224).eval().to(memory_format=torch.channels_last)
    weights, classes = os.path.join(scratch, f"{name}.safetensors"), os.path.join(scratch, "classes.txt")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
    pathlib.Path(classes).write_text("".join(f"{c}\n" for c in range(7)))
    running, whole, said = {}, {}, {}  # seconds by mode
    peers = {}
    for dtype in (torch.float32, torch.bfloat16):
        traced = frozen(model, dtype)
        for workers in map(int, a.workers.split(",")):
            loader = torch.utils.data.DataLoader(folder, BATCH, num_workers=workers, persistent_workers=True)
            next(iter(loader))
            peers[f"{str(dtype)[6:]},{workers}"] = traced, loader, dtype
    own = {f"{p}, --decode {d}": ["--precision", p, "--decode", d] for p in ["fp32", *bf16_modes()] for d in ("exact", "fast")}
    for _ in range(a.rounds):
        for mode, peer in peers.items():
            seconds, said["PyTorch", mode] = torch_epoch(*peer)
            running.setdefault(("PyTorch", mode), []).append(seconds)
        for mode, options in own.items():
            once, said["cairn", mode] = cairn_run(a, name, weights, classes, options, paths)
            twice, _ = cairn_run(a, name, weights, classes, options, paths + paths)
            running.setdefault(("cairn", mode), []).append(twice - once)
            whole.setdefault(("cairn", mode), []).append(once)
    median = {key: statistics.median(seconds) for key, seconds in running.items()}
    best = min((key for key in median if key[0] == "PyTorch"), key=median.get)
    del peers
    for _ in range(a.rounds):
        for mode in ("frozen", "eager"):
            command = [sys.executable, __file__, "--cairn", a.cairn, "--data", a.data, "--threads", str(a.threads)]
            seconds, _ = timed([*command, "--whole", f"{name},{mode},{best[1]},{weights}"])
            whole.setdefault(("PyTorch", f"{best[1]}, {mode}"), []).append(seconds)
    reference = said["PyTorch", f"float32,{a.workers.split(',')[0]}"]
    for what, seconds in (("started", running), ("whole program", whole)):
        peer = min(statistics.median(times) for (engine, _), times in seconds.items() if engine == "PyTorch")
        for key, times in seconds.items():
            middle, answers = statistics.median(times), said.get(key)
            same = sum(x == y for x, y in zip(reference, answers)) if answers else ""
            row(name, what, *key, f"{len(paths) / min(times):.1f}", f"{len(paths) / middle:.1f}", f"{peer / middle:.2f}", same)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--models", default="resnet18,model_cnn")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--workers", default="1,2", help="torchvision's, comma-separated")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--whole", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.whole:
        return whole_torch_program(a)
    torch.set_num_threads(a.threads)
    folder = image_folder(a.data)
    row("model", "time of", "engine", "mode", "best images/s", "median", "median / PyTorch's best",
        f"same class as PyTorch fp32, of {len(folder.samples)}")
    row(*["---"] * 8)
    with tempfile.TemporaryDirectory() as scratch:
        for name in a.models.split(","):
            compare(a, name, folder, scratch)


if __name__ == "__main__":
    main()
