#!/usr/bin/env python3
"""Weights in both directions between cairn and the Python world.

1. The safetensors package reads what cairn exports, and cairn reads and writes back what the package wrote: bit for bit.
2. An exported file goes into torchvision's ResNet-18 with strict=True: the same logits to 1e-4, on real images.
3. torchvision's random ResNet-18 goes into cairn, as safetensors, as torch.save's zip .pth, wrapped as
   {"state_dict": ...} and under "module.": the same logits to 1e-4.
4. timm's ResNet-18 (its own key names and shapes) goes into cairn: the same logits to 1e-4.
5. fp16 and bf16 files are read as exactly the values that they hold.
6. `cairn train --init` takes each of them, the head of another size replaced and named.

Pinned: torch==2.15.0 torchvision==0.29.2 timm==1.0.31 safetensors==0.8.0 numpy==2.4.6 pillow==13.0.0

    python tests/peers/interchange.py --cairn build/release/bin/cairn --data data-demo
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from peer_common import cairn, cairn_predictions, class_names, image_files, input_tensor

SIZE = 64
MEAN_STD = ["--mean", "0.5", "--std", "0.5"]
failures = []


def report(name: str, ok: bool, **figures) -> None:
    print(json.dumps({"check": name, "ok": bool(ok), **figures}), flush=True)
    if not ok:
        failures.append(name)


def logits_of(model: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(inputs).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
    with torch.no_grad():
        return model.eval()(x).numpy()


def settle(model: torch.nn.Module, inputs: np.ndarray) -> None:
    """Running statistics of real images, so that logits are of ordinary size."""
    with torch.no_grad():
        model.train()(torch.from_numpy(inputs).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5))
    model.eval()


def same_bits(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and
                                        a[k].contiguous().numpy().tobytes() == b[k].contiguous().numpy().tobytes() for k in a)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True, help="a folder with one folder of images a class")
    p.add_argument("--images", type=int, default=48)
    a = p.parse_args()
    classes = class_names(a.data)
    files = image_files(a.data)
    paths = files[:: max(len(files) // a.images, 1)]
    inputs = np.stack([input_tensor(path, SIZE) for path in paths])
    torch.manual_seed(0)

    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        names = at("classes.txt")
        with open(names, "w", encoding="utf-8") as f:
            f.write("\n".join(classes) + "\n")

        def source(path: str) -> list:
            return ["--weights", path, "--model", "resnet18", "--classes", names, "--image-size", str(SIZE), *MEAN_STD]

        def compare(name: str, path: str, want: np.ndarray) -> None:
            got = cairn_predictions(a.cairn, source(path), paths)
            values = np.array([got[p]["logits"] for p in paths])
            worst = float(np.abs(values - want).max())
            report(name, worst <= 1e-4 and (values.argmax(1) == want.argmax(1)).all(), largest_logit_difference=worst,
                   logit_rms=float(np.sqrt((want**2).mean())), images=len(paths))

        def export(path: str, out: str) -> str:
            cairn(a.cairn, "export", *source(path), "--format", "safetensors", "--device", "cpu", out)
            return out

        # 3, and the way back, 1.
        theirs = torchvision.models.resnet18(num_classes=len(classes))
        settle(theirs, inputs)
        want = logits_of(theirs, inputs)
        state = theirs.state_dict()
        save_file(state, at("tv.safetensors"))
        torch.save(state, at("tv.pth"))
        torch.save({"epoch": 3, "state_dict": {"module." + k: v for k, v in state.items()}, "arch": "resnet18"}, at("wrapped.pth"))
        for name in ("tv.safetensors", "tv.pth", "wrapped.pth"):
            compare("torchvision into cairn: " + name, at(name), want)
        back = load_file(export(at("tv.safetensors"), at("back.safetensors")))
        # cairn keeps no batch count: nothing reads it where there is a momentum.
        counts = {k for k in state if k.endswith("num_batches_tracked")}
        report("safetensors -> cairn -> safetensors, bit for bit", back.keys() == state.keys() and
               same_bits({k: v for k, v in back.items() if k not in counts}, {k: v for k, v in state.items() if k not in counts}),
               tensors=len(back))
        again = load_file(export(at("back.safetensors"), at("again.safetensors")))
        report("cairn -> cairn, every tensor bit for bit", same_bits(back, again), tensors=len(again))

        # 2: trained here, taken there.
        run = at("run")
        cairn(a.cairn, "train", "--data", a.data, "--out", run, "--model", "resnet18", "--image-size", str(SIZE), "--epochs", "1", "--max-steps", "20",
              "--precision", "fp32", "--device", "cpu", "--quiet")
        cairn(a.cairn, "export", "--run", run, "--format", "safetensors", "--device", "cpu", at("ours.safetensors"))
        with safe_open(at("ours.safetensors"), framework="pt") as f:
            metadata = f.metadata()
        model = torchvision.models.resnet18(num_classes=len(json.loads(metadata["classes"])))
        model.load_state_dict(load_file(at("ours.safetensors")), strict=True)
        got = cairn_predictions(a.cairn, ["--run", run], paths)
        worst = float(np.abs(logits_of(model, inputs) - np.array([got[p]["logits"] for p in paths])).max())
        report("cairn into torchvision, strict", worst <= 1e-4, largest_logit_difference=worst)
        model.load_state_dict(load_file(os.path.join(run, "checkpoints", "best.safetensors")), strict=True)
        report("a run's best.safetensors into torchvision, strict", True)

        # 4
        of_timm = timm.create_model("resnet18", pretrained=False, num_classes=len(classes))
        settle(of_timm, inputs)
        save_file(of_timm.state_dict(), at("timm.safetensors"))
        torch.save(of_timm.state_dict(), at("timm.pth"))
        for name in ("timm.safetensors", "timm.pth"):
            compare("timm into cairn: " + name, at(name), logits_of(of_timm, inputs))

        # 5: what fp16 and bf16 hold is an fp32 number; cairn must come to exactly that one.
        for dtype in (torch.float16, torch.bfloat16):
            narrow = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
            name = str(dtype).removeprefix("torch.")
            save_file(narrow, at(name + ".safetensors"))
            torch.save(narrow, at(name + ".pth"))
            for end in (".safetensors", ".pth"):
                read = load_file(export(at(name + end), at("wide.safetensors")))
                report(f"{name}{end} read exactly", same_bits({k: v for k, v in read.items() if k not in counts},
                                                              {k: v.float() for k, v in narrow.items() if k not in counts}))

        # 6: 1000 classes, as pretrained weights have them.
        big = torchvision.models.resnet18(num_classes=1000).state_dict()
        save_file(big, at("big.safetensors"))
        torch.save(big, at("big.pth"))
        for name in ("big.safetensors", "big.pth"):
            done = subprocess.run([a.cairn, "train", "--data", a.data, "--out", at("from-" + name), "--model", "resnet18", "--image-size", "32", "--init",
                                   at(name), "--epochs", "1", "--max-steps", "1", "--device", "cpu"], capture_output=True, text=True, check=False)
            report("train --init " + name, done.returncode == 0 and "fc.weight [1000,512] in the file" in done.stdout + done.stderr)
    if failures:
        sys.exit("failed: " + "; ".join(failures))


if __name__ == "__main__":
    main()
