#!/usr/bin/env python3
"""Holds cairn's predictions against torchvision's, preprocessing included.

Makes a ResNet-18 under torchvision's key names (random weights, running statistics taken from the images so that the
logits are of ordinary size), writes it with the safetensors package, lets `cairn predict --decode exact --logits` read
it, and compares on real images: logits within 1e-3, the same top class. Needs bench/peers/requirements.txt.

    python tests/peers/torchvision_logits.py --cairn build/release/bin/cairn --data data-demo [--images 200]
"""
import argparse
import json
import os
import sys
import tempfile

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from peer_common import cairn_predictions, upright_rgb


def read_image(path: str, size: int) -> torch.Tensor:
    resized = torchvision.transforms.Resize((size, size))(upright_rgb(path))
    return torchvision.transforms.Normalize([0.5] * 3, [0.5] * 3)(torchvision.transforms.ToTensor()(resized))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--data", required=True, help="a folder with one folder of images a class")
    p.add_argument("--images", type=int, default=200)
    p.add_argument("--image-size", type=int, default=224)
    a = p.parse_args()

    classes = sorted(d for d in os.listdir(a.data) if os.path.isdir(os.path.join(a.data, d)))
    files = sorted(os.path.join(root, f) for root, _, names in os.walk(a.data) for f in names if f.lower().endswith((".png", ".jpg", ".webp")))
    chosen, inputs = [], []
    for path in files[:: max(len(files) // a.images, 1)]:
        try:
            inputs.append(read_image(path, a.image_size))
            chosen.append(path)
        except (OSError, Image.DecompressionBombError) as error:
            print(f"left out: {path} ({error})", file=sys.stderr)
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=len(classes))
    with torch.no_grad():  # statistics of real images, and a head that tells them apart
        model.train()
        model(torch.stack(inputs[:64]))
        model.fc.weight.mul_(5)
        model.eval()
        model.fc.bias.sub_(model(torch.stack(inputs[:64])).mean(0))
        want = torch.cat([model(torch.stack(inputs[i : i + 32])) for i in range(0, len(inputs), 32)]).numpy()

    with tempfile.TemporaryDirectory() as folder:
        weights, names = (os.path.join(folder, n) for n in ("model.safetensors", "classes.txt"))
        save_file(model.state_dict(), weights)
        with open(names, "w", encoding="utf-8") as f:
            f.write("\n".join(classes) + "\n")
        source = ["--weights", weights, "--model", "resnet18", "--classes", names, "--image-size", str(a.image_size), "--mean", "0.5", "--std", "0.5"]
        got = cairn_predictions(a.cairn, source, chosen)
    worst = max(float(np.abs(np.array(got[path]["logits"]) - want[i]).max()) for i, path in enumerate(chosen))
    same = sum(got[path]["class"] == classes[int(want[i].argmax())] for i, path in enumerate(chosen))
    print(json.dumps({"images": len(chosen), "largest_logit_difference": worst, "same_class": same,
                      "logit_rms": float(np.sqrt((want**2).mean())), "classes_used": len(set(want.argmax(1).tolist()))}))
    if worst > 1e-3 or same != len(chosen):
        sys.exit("predictions differ from torchvision's")


if __name__ == "__main__":
    main()
