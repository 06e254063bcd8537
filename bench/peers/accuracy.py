#!/usr/bin/env python3
"""Trains a peer model with PyTorch on the parts of a cairn manifest (split.csv) and prints one JSON object.

The recipe is cairn's, option by option: oversampled training part, Adam or SGD, cosine with warm-up by step, label
smoothing, light augmentation (random resized crop of area 0.6 to 1, flip), best epoch by validation balanced
accuracy (the earlier at a tie), test read once from it. Needs requirements.txt beside this file.
"""
import argparse
import csv
import io
import json
import math
import os
import random
import time

import numpy as np
import torch
from PIL import Image, ImageOps

from models import make_model


def read_image(path: str, size: int) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("RGB").resize((size, size), Image.BILINEAR))


def crop_and_flip(image: torch.Tensor, size: int, rng: random.Random) -> torch.Tensor:
    """image [3,S,S] uint8 -> [3,size,size]; torchvision's random resized crop with area 0.6 to 1."""
    _, h, w = image.shape
    for _ in range(10):
        area = h * w * rng.uniform(0.6, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        cw, ch = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < cw <= w and 0 < ch <= h:
            break
    else:
        cw, ch = w, h
    top, left = rng.randint(0, h - ch), rng.randint(0, w - cw)
    crop = image[:, top : top + ch, left : left + cw]
    out = torch.nn.functional.interpolate(
        crop[None].float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )[0].round().clamp(0, 255).to(torch.uint8)
    return out.flip(2) if rng.random() < 0.5 else out


def metrics(labels: np.ndarray, predictions: np.ndarray, classes: int) -> dict:
    recalls, f1s = [], []
    for c in range(classes):
        true = labels == c
        said = predictions == c
        hit = int((true & said).sum())
        if true.sum():
            recalls.append(hit / int(true.sum()))
        f1s.append(2 * hit / max(int(true.sum() + said.sum()), 1))
    return {
        "accuracy": float((labels == predictions).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(np.mean(f1s)),
        "n": int(len(labels)),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True)
    p.add_argument("--split", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--epochs", type=int, required=True)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--image-size", type=int, default=224)
    p.add_argument("--optimizer", choices=["sgd", "adam", "adamw"], default="adam")
    p.add_argument("--lr", type=float, required=True)
    p.add_argument("--momentum", type=float, default=0.9)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--schedule", choices=["constant", "cosine"], default="cosine")
    p.add_argument("--warmup-epochs", type=float, default=0.0)
    p.add_argument("--label-smoothing", type=float, default=0.0)
    p.add_argument("--augment", choices=["none", "light"], default="none")
    p.add_argument("--balance", choices=["none", "oversample"], default="oversample")
    p.add_argument("--patience", type=int, default=0, help="epochs without a better one before it stops; 0: never")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    a = p.parse_args()

    torch.manual_seed(a.seed)
    rng = random.Random(a.seed)
    with open(a.split, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    classes = sorted({r["class"] for r in rows})
    source = round(a.image_size * 8 / 7) if a.augment == "light" else a.image_size
    cache: dict[tuple[str, int], torch.Tensor] = {}

    def pixels(path: str, size: int) -> torch.Tensor:
        key = (path, size)
        if key not in cache:
            cache[key] = torch.from_numpy(read_image(os.path.join(a.data, path), size).copy()).permute(2, 0, 1).contiguous()
        return cache[key]

    parts = {"train": [], "val": [], "test": []}
    for r in rows:
        parts[r["part"]].append((r["path"], classes.index(r["class"])))
    by_class = [[i for i, (_, label) in enumerate(parts["train"]) if label == c] for c in range(len(classes))]
    largest = max(len(m) for m in by_class)

    model = make_model(a.model, len(classes), a.image_size).to(memory_format=torch.channels_last)
    optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), a.lr, momentum=a.momentum, weight_decay=a.weight_decay),
        "adam": lambda: torch.optim.Adam(model.parameters(), a.lr, weight_decay=a.weight_decay),
        "adamw": lambda: torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.weight_decay),
    }[a.optimizer]()
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=a.label_smoothing)

    def epoch_order() -> list[int]:
        order = []
        for members in by_class:
            order += members
            if a.balance == "oversample" and members:
                whole, rest = divmod(largest, len(members))
                order += members * (whole - 1) + rng.sample(members, rest)
        rng.shuffle(order)
        return order

    def to_input(batch: list[torch.Tensor]) -> torch.Tensor:
        x = torch.stack(batch).float().div_(255).sub_(0.5).div_(0.5)
        return x.contiguous(memory_format=torch.channels_last)

    def evaluate(part: str) -> dict:
        model.eval()
        predictions, labels = [], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            for i in range(0, len(parts[part]), a.batch_size):
                chunk = parts[part][i : i + a.batch_size]
                predictions.append(model(to_input([pixels(path, a.image_size) for path, _ in chunk])).float().argmax(1).numpy())
                labels += [label for _, label in chunk]
        model.train()
        return metrics(np.array(labels), np.concatenate(predictions), len(classes))

    steps_per_epoch = max(len(epoch_order()) // a.batch_size, 1)
    rng = random.Random(a.seed)
    total, warmup = a.epochs * steps_per_epoch, round(a.warmup_epochs * steps_per_epoch)
    best, step, start, train_loss = None, 0, time.time(), 0.0
    for epoch in range(a.epochs):
        order, losses = epoch_order(), []
        for b in range(steps_per_epoch):
            if step < warmup:
                factor = (step + 1) / warmup
            elif a.schedule == "cosine":
                factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
            else:
                factor = 1.0
            for group in optimizer.param_groups:
                group["lr"] = a.lr * factor
            chunk = [parts["train"][i] for i in order[b * a.batch_size : (b + 1) * a.batch_size]]
            images = [pixels(path, source) for path, _ in chunk]
            if a.augment == "light":
                images = [crop_and_flip(image, a.image_size, rng) for image in images]
            labels = torch.tensor([label for _, label in chunk])
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
                logits = model(to_input(images))
            loss = criterion(logits.float(), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        train_loss = float(np.mean(losses))
        val = evaluate("val")
        if best is None or val["balanced_accuracy"] > best[0]["balanced_accuracy"]:
            buffer = io.BytesIO()
            torch.save(model.state_dict(), buffer)
            best = (val, epoch, buffer.getvalue())
        if a.patience and epoch - best[1] >= a.patience:
            break
    model.load_state_dict(torch.load(io.BytesIO(best[2]), weights_only=True))
    print(json.dumps({"model": a.model, "seed": a.seed, "best_epoch": best[1], "train_loss": train_loss, "val": best[0],
                      "test": evaluate("test"), "seconds": round(time.time() - start, 1)}))


if __name__ == "__main__":
    main()
