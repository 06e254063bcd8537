#!/usr/bin/env python3
"""Collections of odd images, each decoded or refused by cairn, none crashing it, and held against Pillow:

    odd_images.py DUMP_PIXELS [FOLDER...]

DUMP_PIXELS is bench/data/dump_pixels, best from a sanitizers' build. The collections: PngSuite, as pypng 0.20220715's
source package carries it (code/pngsuite.py, to be found by PYTHONPATH; scripts/check-peers sees to that), and every
image under the FOLDERs, by default those of Debian's gdk-pixbuf-tests (GIF, PNG, BMP, TGA, PPM, JPEG; among them files made to crash decoders). Exits with 1 if cairn crashed, or if a
file of PngSuite that Pillow reads is refused or read otherwise, 16-bit depths apart, for which cairn has its own rule, and
tbbn1g04, whose transparent grey of 4 bits Pillow compares with samples of 8, so that nothing is transparent.
"""
import collections
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageOps

SIZE = 224
ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".webp"}
DEBIAN = ["/usr/libexec/installed-tests/gdk-pixbuf/test-images", "/usr/libexec/installed-tests/gnome-photos"]


def pngsuite(folder):
    import pngsuite as suite

    for name, data in suite.png.items():
        with open(os.path.join(folder, f"pngsuite-{name}.png"), "wb") as f:
            f.write(data)


def collect(folder, sources):
    for source in sources:
        for place, _, names in sorted(os.walk(source)):
            for name in sorted(names):
                ending = os.path.splitext(name)[1].lower()
                if ending in ENDINGS:
                    path = os.path.join(place, name)
                    flat = os.path.relpath(path, source).replace("/", "-")
                    with open(path, "rb") as i, open(os.path.join(folder, flat), "wb") as o:
                        o.write(i.read())


def pillow(path):
    """[S,S,3] as cairn documents it, or None where Pillow refuses the file; and whether its samples have 16 bits."""
    try:
        with Image.open(path) as opened:
            deep = opened.mode.startswith("I") or opened.mode == "F"
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.BILINEAR)), deep
    except Exception:  # whatever Pillow's plugins raise for a damaged file
        return None, False


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, "odd")
        os.mkdir(folder)
        pngsuite(folder)
        collect(folder, sys.argv[2:] or DEBIAN)
        out = os.path.join(top, "pixels")
        done = subprocess.run([sys.argv[1], top, "exact", out], capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            sys.exit(f"dump_pixels failed with {done.returncode}: {done.stderr[-2000:]}")
        with open(out + ".txt", encoding="utf-8") as f:
            names = [os.path.basename(p) for p in f.read().splitlines()]
        pixels = dict(zip(names, np.fromfile(out, np.uint8).reshape(len(names), SIZE, SIZE, 3)))
        counts = collections.defaultdict(list)
        failed = []
        for name in sorted(os.listdir(folder)):
            theirs, deep = pillow(os.path.join(folder, name))
            ours = pixels.get(name)
            if ours is None:
                kind = "both refuse" if theirs is None else "only Pillow reads"
            elif theirs is None:
                kind = "only cairn reads"
            else:
                difference = int(np.abs(ours.astype(int) - theirs).max())
                kind = "equal" if difference == 0 else "within one level" if difference == 1 else "differ"
            collection = "PngSuite" if name.startswith("pngsuite-") else "others"
            counts[(collection, kind)].append(name)
            if collection == "PngSuite" and kind in ("only Pillow reads", "differ") and not (deep or "16" in name or "tbbn1g04" in name):
                failed.append(name)
        for (collection, kind), found in sorted(counts.items()):
            few = "" if kind == "equal" else ": " + ", ".join(found)
            print(f"{collection}, {kind}: {len(found)}{few}")
        print("refused by cairn, with its reasons:\n" + done.stderr.strip())
    if failed:
        sys.exit("PngSuite, not as Pillow: " + ", ".join(failed))


main()
