#!/usr/bin/env python3
"""Cuts JPEG photos of 600 to 1200 pixels out of the wallpapers in Debian's packages mate-backgrounds and
plasma-workspace-wallpapers: make_photos.py OUT [--count 400]. One folder a package, the same files every time."""
import argparse
import pathlib
import random
import sys

from PIL import Image

SOURCES = {"mate": "/usr/share/backgrounds/mate", "plasma": "/usr/share/wallpapers"}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--count", type=int, default=400)
    a = p.parse_args()
    if a.out.exists() and any(a.out.iterdir()):
        sys.exit(f"{a.out} is there already")
    Image.MAX_IMAGE_PIXELS = None
    for name, root in SOURCES.items():
        photos = sorted(f for f in pathlib.Path(root).rglob("*") if f.suffix in (".jpg", ".png") and not f.is_symlink())
        photos = [f for f in photos if min(Image.open(f).size) >= 1200]
        if not photos:
            sys.exit(f"no photos in {root}: install mate-backgrounds and plasma-workspace-wallpapers")
        rng = random.Random(0)
        (a.out / name).mkdir(parents=True)
        # A photo at a time, so that each is decoded once.
        for number, photo in enumerate(photos):
            with Image.open(photo) as opened:
                image = opened.convert("RGB")
            for crop in range(number, a.count // len(SOURCES), len(photos)):
                width, height = rng.randint(600, 1200), rng.randint(600, 1200)
                x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
                image.crop((x, y, x + width, y + height)).save(a.out / name / f"{crop:04}.jpg", quality=90)
    print(f"{a.count} photos in {a.out}")


if __name__ == "__main__":
    main()
