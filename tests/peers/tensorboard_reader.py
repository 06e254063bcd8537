#!/usr/bin/env python3
"""Reads a run directory's event files with TensorBoard's own reader: scalars, pictures and histograms.

Needs tensorboard==2.21.0 and Pillow==13.*.

    python tests/peers/tensorboard_reader.py --run runs/first
"""
import argparse
import io
import json
import os

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, IMAGES, SCALARS, EventAccumulator


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", required=True)
    a = p.parse_args()
    reader = EventAccumulator(a.run, size_guidance={SCALARS: 0, IMAGES: 0, HISTOGRAMS: 0})
    reader.Reload()
    tags = reader.Tags()

    with open(os.path.join(a.run, "metrics.jsonl"), encoding="utf-8") as f:
        epochs = [e for e in map(json.loads, f) if e["kind"] == "epoch"]
    for tag, value in (("loss/train", lambda e: e["train_loss"]), ("train/lr", lambda e: e["lr"]),
                       ("val/balanced_accuracy", lambda e: e["val"]["balanced_accuracy"])):
        got = reader.Scalars(tag)
        assert [s.step for s in got] == [e["step"] for e in epochs], tag
        for scalar, e in zip(got, epochs):
            assert abs(scalar.value - value(e)) <= 1e-6 * max(1.0, abs(value(e))), (tag, scalar, e)

    assert {"confusion/rows_true_columns_predicted", "batch/training_part"} <= set(tags["images"]), tags["images"]
    for tag in tags["images"]:
        for event in reader.Images(tag):
            picture = Image.open(io.BytesIO(event.encoded_image_string))
            picture.load()
            assert picture.size == (event.width, event.height), (tag, picture.size)

    weights = [t for t in tags["histograms"] if t.startswith("weights/")]
    assert weights, tags["histograms"]
    for tag in weights:
        h = reader.Histograms(tag)[0].histogram_value
        assert sum(h.bucket) == h.num > 0 and h.min <= h.sum / h.num <= h.max, tag
    print(f"TensorBoard reads {len(tags['scalars'])} scalars over {len(epochs)} epochs, {len(tags['images'])} pictures, "
          f"{len(tags['histograms'])} histograms")


if __name__ == "__main__":
    main()
