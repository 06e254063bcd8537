#!/usr/bin/env python3
"""Speed of a PyTorch training or inference step on this CPU; prints one JSON object.

The input lies ready in memory (no loader), which favours PyTorch against a program that also feeds itself.
"""
import argparse
import json
import resource
import statistics
import sys
import time

start = time.perf_counter()
import torch  # noqa: E402  (its import time is part of what a user waits for)

from models import make_model  # noqa: E402


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True)
    p.add_argument("--mode", choices=["default", "channels_last", "bf16", "compiled", "compiled_bf16", "onnxruntime"], default="channels_last")
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--image-size", type=int, default=224)
    p.add_argument("--classes", type=int, default=7)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--infer", action="store_true")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    bf16 = a.mode.endswith("bf16")
    layout = torch.contiguous_format if a.mode == "default" else torch.channels_last
    model = make_model(a.model, a.classes, a.image_size).to(memory_format=layout)
    x = (torch.rand(a.batch_size, 3, a.image_size, a.image_size) * 2 - 1).contiguous(memory_format=layout)
    y = torch.randint(0, a.classes, (a.batch_size,))
    if a.infer and a.mode == "onnxruntime":
        import os
        import tempfile

        import onnxruntime

        path = os.path.join(tempfile.mkdtemp(), "model.onnx")
        torch.onnx.export(model.eval(), (x,), path, input_names=["x"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        values = x.contiguous().numpy()

        def step():
            session.run(None, {"x": values})
    elif a.infer:
        model.eval()
        if bf16:
            model, x = model.to(torch.bfloat16), x.to(torch.bfloat16)
        with torch.inference_mode():
            model = torch.jit.optimize_for_inference(torch.jit.trace(model, x, check_trace=False))

        def step():
            with torch.inference_mode():
                model(x)
    else:
        run = torch.compile(model) if a.mode.startswith("compiled") else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        criterion = torch.nn.CrossEntropyLoss()

        def step():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out = run(x)
            loss = criterion(out.float(), y)
            loss.backward()
            optimizer.step()
            loss.item()

    step()
    first = time.perf_counter() - start
    for _ in range(a.warmup):
        step()
    times = []
    for _ in range(a.steps):
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    print(json.dumps({
        "engine": f"PyTorch {torch.__version__}", "model": a.model, "mode": a.mode, "infer": a.infer, "batch_size": a.batch_size,
        "threads": torch.get_num_threads(), "images_per_s_best": a.batch_size / min(times),
        "images_per_s_median": a.batch_size / statistics.median(times), "first_step_s": first,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


if __name__ == "__main__":
    sys.exit(main())
