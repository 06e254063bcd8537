#!/usr/bin/env python3
"""Holds exported ONNX files against ONNX's own checker and onnxruntime, preprocessing repeated with Pillow.

For each model: trains a few steps at a small image size, exports, then
- onnx.checker with full shape inference accepts the file;
- the sample image in its metadata, decoded and resized by Pillow, has the digest and gives the logits written there;
- on every image of the data set onnxruntime's logits are within 1e-4 of `cairn predict --decode exact` (fp32), and the
  top class is the same; with --softmax its probabilities are the softmax of those logits.

Pinned: onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 pillow==13.0.0

    python tests/peers/onnx_check.py --cairn build/release/bin/cairn --data data-demo
"""
import argparse
import base64
import hashlib
import io
import json
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

from peer_common import cairn, cairn_predictions, image_files, input_tensor


def session(path: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check_model(program: str, name: str, a: argparse.Namespace, folder: str, paths: list, inputs: np.ndarray) -> dict:
    run, path, soft = (os.path.join(folder, name + end) for end in ("", ".onnx", ".softmax.onnx"))
    cairn(program, "train", "--data", a.data, "--out", run, "--model", name, "--image-size", str(a.image_size), "--epochs", "1", "--max-steps",
          str(a.steps), "--precision", "fp32", "--device", "cpu", "--quiet")
    cairn(program, "export", "--run", run, "--format", "onnx", "--device", "cpu", path)
    cairn(program, "export", "--run", run, "--format", "onnx", "--device", "cpu", "--softmax", soft)
    onnx.checker.check_model(path, full_check=True)
    onnx.checker.check_model(soft, full_check=True)
    metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
    runtime = session(path)

    size = int(metadata["image_size"])
    sample = input_tensor(io.BytesIO(base64.b64decode(metadata["sample_image"])), size)
    if hashlib.sha256(sample.tobytes()).hexdigest() != metadata["sample_input_sha256"]:
        sys.exit(f"{name}: Pillow makes another input of the sample image")
    of_sample = runtime.run(None, {"image": sample[None]})[0][0]

    want = cairn_predictions(program, ["--run", run], paths)
    classes = json.loads(metadata["classes"])
    logits = np.concatenate([runtime.run(["logits"], {"image": inputs[i : i + 64]})[0] for i in range(0, len(inputs), 64)])
    expected = np.array([want[p]["logits"] for p in paths], np.float32)
    same = sum(classes[int(row.argmax())] == want[p]["class"] for row, p in zip(logits, paths))
    probabilities = session(soft).run(["probabilities"], {"image": inputs[:64]})[0]
    e = np.exp(logits[:64].astype(np.float64) - logits[:64].max(1, keepdims=True))
    return {"model": name, "images": len(paths), "same_class": same, "largest_logit_difference": float(np.abs(logits - expected).max()),
            "logit_rms": float(np.sqrt((expected**2).mean())), "classes_answered": len({int(r.argmax()) for r in logits}),
            "sample_logit_difference": float(np.abs(of_sample - np.array(json.loads(metadata["sample_logits"]))).max()),
            "probability_difference": float(np.abs(probabilities - e / e.sum(1, keepdims=True)).max())}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True, help="a folder with one folder of images a class")
    p.add_argument("--image-size", type=int, default=64)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--models", nargs="+", default=["resnet18", "resnet_classes", "model_cnn"])
    a = p.parse_args()
    paths = image_files(a.data)
    inputs = np.stack([input_tensor(path, a.image_size) for path in paths])
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in a.models:
            figures = check_model(a.cairn, name, a, folder, paths, inputs)
            print(json.dumps(figures), flush=True)
            worst = max(figures[k] for k in ("largest_logit_difference", "sample_logit_difference", "probability_difference"))
            if worst > 1e-4 or figures["same_class"] != figures["images"]:
                failed.append(name)
    if failed:
        sys.exit(f"onnxruntime differs from cairn: {', '.join(failed)}")


if __name__ == "__main__":
    main()
