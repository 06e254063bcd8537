#!/usr/bin/env python3
"""PyTorch's time for each row that bench/gpu/kernel_times printed: kernels_torch.py ROWS.jsonl > ROWS.

Batch norm, convolutions and their gradients are cuDNN's there (channels_last, cudnn.benchmark). Timed as kernel_times
does: events, the last cache overwritten before each call, 30 samples. With --device cpu each row runs once, untimed, on
a small shape.
"""
import argparse
import json
import statistics
import sys

import torch
import torch.nn.functional as F

SAMPLES = 30
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def time_us(device, scrub, f):
    """Median; None where nothing is timed."""
    f()
    if device == "cpu":
        return None
    for _ in range(3):
        f()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(SAMPLES)]
    for begin, end in pairs:
        scrub.zero_()
        begin.record()
        f()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(b.elapsed_time(e) * 1e3 for b, e in pairs)


def rival(row, device):
    """A function that does what the row's kernel does, or None where PyTorch has no counterpart."""
    name, dtype = row["kernel"], DTYPES[row["dtype"]]
    shape = [int(n) for n in row["shape"].strip("[]").split(",")]
    if device == "cpu":
        shape = [min(n, 4) if i == 0 and len(shape) > 1 else min(n, 4096) for i, n in enumerate(shape)]

    def make(*dims, like=dtype):
        return torch.rand(*dims, device=device).sub_(0.5).to(like)

    def images(n, h, w, c):
        return make(n, h, w, c).permute(0, 3, 1, 2)  # NHWC in memory: channels_last

    flat = torch.rand(shape[0], device=device) if len(shape) == 1 else None
    if name == "copy":
        out = torch.empty_like(flat)
        return lambda: out.copy_(flat)
    if name in ("sgd_step", "adam_step"):
        parameter = torch.nn.Parameter(flat)
        parameter.grad = torch.rand_like(flat)
        kinds = {"sgd_step": lambda: torch.optim.SGD([parameter], lr=1e-6, momentum=0.9, weight_decay=1e-4, fused=True),
                 "adam_step": lambda: torch.optim.AdamW([parameter], lr=1e-6, weight_decay=1e-2, fused=True)}
        return kinds[name]().step
    if name == "softmax_cross_entropy":
        logits = make(*shape).requires_grad_()
        labels = torch.full((shape[0],), 3, device=device)
        return lambda: torch.autograd.grad(F.cross_entropy(logits, labels), logits)
    if name == "linear_forward":
        x, w = make(*shape), make(512, shape[1])
        return lambda: F.linear(x, w)
    if name == "preprocess":
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        return lambda: pixels.to(dtype).div_(255).sub_(0.5).div_(0.5)
    if len(shape) != 4:
        return None
    n, h, w, c = shape
    x, dy = images(n, h, w, c), images(n, h, w, c)
    if name == "relu_forward":
        return lambda: torch.relu(x)
    if name == "relu_backward":
        return lambda: torch.ops.aten.threshold_backward(dy, x, 0)
    if name == "add":
        return lambda: x + dy
    if name == "dropout":
        return lambda: F.dropout(x, 0.25, training=True)
    if name == "cast":
        other = torch.bfloat16 if dtype == torch.float32 else torch.float32
        return lambda: x.to(other)
    if name == "l2_norm":
        return lambda: torch.linalg.vector_norm(x, dtype=torch.float32)
    if name == "check_finite":
        return lambda: torch.isfinite(x).all()
    if name.startswith("batch_norm"):
        gamma, beta = make(c, like=torch.float32).requires_grad_(), make(c, like=torch.float32).requires_grad_()
        residual = images(n, h, w, c).requires_grad_() if "add" in name else None
        x.requires_grad_()

        def forward():
            y = F.batch_norm(x, None, None, gamma, beta, training=True)
            return torch.relu(y if residual is None else y + residual)

        if "forward" in name:
            return lambda: forward()
        inputs = [x, gamma, beta] + ([] if residual is None else [residual])
        y = forward()
        return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)
    if name.startswith("max_pool2d"):
        kernel, stride, padding = (3, 2, 1) if c == 64 else (2, 2, 0)
        x.requires_grad_()
        y = F.max_pool2d(x, kernel, stride, padding)
        if "forward" in name:
            return lambda: F.max_pool2d(x.detach(), kernel, stride, padding, return_indices=True)
        gradient = torch.rand_like(y)
        return lambda: torch.autograd.grad(y, x, gradient, retain_graph=True)
    if name.startswith("global_avg_pool"):
        if "forward" in name:
            return lambda: x.mean((2, 3))
        x.requires_grad_()
        y = x.mean((2, 3))
        gradient = torch.rand_like(y)
        return lambda: torch.autograd.grad(y, x, gradient, retain_graph=True)
    if name.startswith("conv2d"):
        weight = images(c, 3, 3, c).to(dtype)
        wants = {"conv2d_forward": None, "conv2d_backward_data": (True, False, False), "conv2d_backward_weight": (False, True, False)}
        if wants[name] is None:
            return lambda: F.conv2d(x, weight, padding=1)
        return lambda: torch.ops.aten.convolution_backward(dy, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wants[name])
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("rows")
    p.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    a = p.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    scrub = None
    if a.device == "cuda":
        scrub = torch.empty(2 * torch.cuda.get_device_properties(0).L2_cache_size, dtype=torch.uint8, device="cuda")
    with open(a.rows, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f if '"kernel"' in line]
    for row in rows:
        f = rival(row, a.device)
        if f is None:
            print(f"kernels_torch: PyTorch has no {row['kernel']}", file=sys.stderr)
            continue
        us = time_us(a.device, scrub, f)
        print(json.dumps({"kernel": row["kernel"], "shape": row["shape"], "dtype": row["dtype"], "torch_us": us}), flush=True)
        f = None
        if a.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
