#!/usr/bin/env python3
"""PyTorch's training step on a GPU beside bench/gpu/train_speed.cpp: the same model, weights, images, optimiser.

Prints one JSON object. The input lies normalised on the device, while cairn's step uploads its pixels and normalises
them: that favours PyTorch. With --device cpu each mode runs a few steps, for a rehearsal, and nothing is timed.
"""
import argparse
import json
import pathlib
import statistics
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
from models import make_model  # noqa: E402
from stored import read  # noqa: E402

LR = 0.01  # train_speed.cpp's
DTYPES = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """Eager, compiled or captured; autocast to 16 bits; channels_last."""

    def __init__(self, a, model, x, y):
        self.a, self.model, self.x, self.y = a, model, x, y
        self.optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
        self.criterion = torch.nn.CrossEntropyLoss()
        self.scaler = torch.amp.GradScaler(a.device, enabled=a.precision == "fp16" and a.device == "cuda")
        modes = {"compiled": None, "compiled_graph": "reduce-overhead"}
        self.run = torch.compile(model, mode=modes[a.mode]) if a.mode in modes else model
        self.graph = None

    def once(self):
        self.optimizer.zero_grad(set_to_none=True)
        dtype = DTYPES[self.a.precision]
        # Weights are cast once a step either way; in a captured step the cache must not outlive the capture.
        with torch.autocast(self.a.device, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=self.a.mode != "graph"):
            out = self.run(self.x)
        loss = self.criterion(out.float(), self.y)
        if self.scaler.is_enabled():
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        return loss

    def capture(self):
        """The whole step as one CUDA graph (torch.cuda.graph's documentation, "Whole-network capture")."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.once()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.once()

    def __call__(self):
        if self.graph is None:
            return self.once()
        self.graph.replay()
        return self.loss


def load(a):
    model = make_model(a.model, a.classes, a.image_size)
    if a.weights:
        stored = read(f"{a.weights}/weights.safetensors")
        prefix = "net." if a.model == "resnet_classes" else ""
        model.load_state_dict({prefix + name: t for name, t in stored.items()})
        batch = read(f"{a.weights}/batch.safetensors")
        images, labels = batch["images"].permute(0, 3, 1, 2).float() / 255, batch["labels"].long()
    else:
        images = torch.rand(a.batch_size, 3, a.image_size, a.image_size)
        labels = torch.randint(0, a.classes, (a.batch_size,))
    if a.no_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    model = model.to(a.device, memory_format=torch.channels_last)
    x = ((images - 0.5) / 0.5).to(a.device).contiguous(memory_format=torch.channels_last)
    return model, x, labels.to(a.device)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True)
    p.add_argument("--mode", choices=["eager", "compiled", "graph", "compiled_graph"], default="eager")
    p.add_argument("--precision", choices=list(DTYPES), default="bf16")
    p.add_argument("--batch-size", type=int, default=256)
    p.add_argument("--image-size", type=int, default=224)
    p.add_argument("--classes", type=int, default=7)
    p.add_argument("--steps", type=int, default=60)
    p.add_argument("--warmup", type=int, default=8)
    p.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    p.add_argument("--weights", help="folder that train_speed --write filled")
    p.add_argument("--no-dropout", action="store_true")
    a = p.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = a.precision == "tf32"
    model, x, y = load(a)
    step = Step(a, model, x, y)
    losses = [step().item() for _ in range(a.warmup)]
    result = {"engine": f"PyTorch {torch.__version__}", "model": a.model, "mode": a.mode, "precision": a.precision,
              "batch_size": len(y), "image_size": a.image_size, "losses": losses, "timed": a.device == "cuda"}
    if a.device == "cuda":
        if a.mode == "graph":
            step.capture()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(a.steps + 1)]
        torch.cuda.synchronize()
        marks[0].record()
        for mark in marks[1:]:
            step()
            mark.record()
        torch.cuda.synchronize()
        times = [b.elapsed_time(e) / 1e3 for b, e in zip(marks, marks[1:])]
        result.update(images_per_s=len(y) * a.steps / sum(times), images_per_s_median=len(y) / statistics.median(times),
                      images_per_s_best=len(y) / min(times), peak_memory_mb=torch.cuda.max_memory_allocated() >> 20)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
