#!/usr/bin/env python3
"""Writes the fuzzers' seeds of weights and runs: the pickle of tests/fixtures/plain.pth, a checkpoint of a tiny model
with plain SGD, which keeps nothing beside it, and a run's config.json. Standard library only."""
import json
import pathlib
import struct
import zipfile

here = pathlib.Path(__file__).parent
with zipfile.ZipFile(here.parents[1] / "fixtures" / "plain.pth") as archive:
    name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
    (here / "plain.pickle").write_bytes(archive.read(name))

header = {"__metadata__": {"cairn_checkpoint": "1", "optimizer_steps": "3", "progress": json.dumps({"epoch": 1})}}
header["model.w"] = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
data = struct.pack("<4f", 1, 2, 3, 4)
text = json.dumps(header).encode()
(here / "tiny.checkpoint").write_bytes(struct.pack("<Q", len(text)) + text + data)

config = {"version": "0.1.0", "threads": 2, "device": "cpu",
          "card": {"model": "model_cnn", "classes": '["a","b"]', "image_size": "16", "resize": "stretch", "mean": "[0.5,0.5,0.5]", "std": "[0.5,0.5,0.5]"},
          "options": {"data": "photos", "model": "model_cnn", "epochs": 2, "lr": 0.001, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "dropout": None,
                      "no-shuffle": False, "batch-size": 4, "seed": 1, "loss": "ce", "resize": "stretch"}}
(here / "config.options").write_text(json.dumps(config, indent=2) + "\n")
