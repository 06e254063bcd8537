"""What the comparisons share: images as cairn's documentation says they are read, and cairn's answers."""
import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def upright_rgb(source) -> Image.Image:
    """EXIF orientation applied, transparency composed on white, RGB."""
    image = ImageOps.exif_transpose(Image.open(source))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def input_tensor(source, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: Pillow's antialiased bilinear resize of the whole image (--resize stretch)."""
    return np.asarray(upright_rgb(source).resize((size, size), Image.Resampling.BILINEAR))


def class_names(data: str) -> list:
    return sorted(d for d in os.listdir(data) if os.path.isdir(os.path.join(data, d)))


def image_files(data: str) -> list:
    return sorted(os.path.join(root, f) for root, _, names in os.walk(data) for f in names if f.lower().endswith(SUFFIXES))


def cairn(program: str, *arguments: str) -> str:
    """Runs it; a failure ends the comparison with cairn's own line."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"cairn {arguments[0]} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def cairn_predictions(program: str, source: list, paths: list) -> dict:
    """path -> the object that `cairn predict --json --logits` prints. source: ["--run", RUN] or ["--weights", ...]."""
    out = cairn(program, "predict", *source, "--decode", "exact", "--logits", "--json", "--quiet", "--device", "cpu", *paths)
    return {r["path"]: r for r in map(json.loads, out.splitlines())}
