#!/usr/bin/env python3
"""Writes the fuzzers' seeds of the formats that tests/fixtures/decode has no files of; Pillow 13.0."""
import pathlib

from PIL import Image

here = pathlib.Path(__file__).parent
image = Image.linear_gradient("L").resize((12, 9))
image = Image.merge("RGBA", (image, image.rotate(180), image.transpose(Image.FLIP_LEFT_RIGHT), image))
exif = Image.Exif()
exif[0x0112] = 6
image.convert("RGB").save(here / "lossy.webp", quality=50)
image.save(here / "lossy_alpha.webp", quality=50)
image.save(here / "lossless_exif.webp", lossless=True, exif=exif)
image.save(here / "animated.webp", save_all=True, append_images=[image.rotate(90)], lossless=True)
for mode in ("L", "P", "RGB", "RGBA"):
    for compression in (None, "tga_rle"):
        image.convert("RGB" if mode == "P" else mode).convert(mode).save(here / f"{mode}_{compression or 'plain'}.tga", compression=compression)
