#!/usr/bin/env python3
"""How far cairn's pixels are from torchvision's PIL path: decode_distance.py PIXELS, where PIXELS and PIXELS.txt are
what dump_pixels wrote. Each file is opened as torchvision would, turned upright, composed on white where it has alpha,
and resized by torchvision.transforms.Resize((224, 224))."""
import sys

import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import Resize

SIZE = 224


def pil_pixels(path):
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(Resize((SIZE, SIZE))(image.convert("RGB")))


def main():
    paths = open(sys.argv[1] + ".txt").read().splitlines()
    ours = np.fromfile(sys.argv[1], np.uint8).reshape(len(paths), SIZE, SIZE, 3)
    means, largest, equal = [], [], 0
    for path, pixels in zip(paths, ours):
        difference = np.abs(pixels.astype(int) - pil_pixels(path))
        means.append(difference.mean())
        largest.append(difference.max())
        equal += difference.max() == 0
    print(
        f"{len(paths)} images, {equal} equal byte for byte; levels of 255: mean difference {np.mean(means):.3f}, "
        f"of the worst image {np.max(means):.3f}, largest difference of a value {np.max(largest)} "
        f"(median over the images {np.median(largest):.0f})"
    )


main()
