"""Reads safetensors files into torch tensors without the safetensors package, which a GPU machine may lack."""
import json
import pathlib

import torch

DTYPES = {"F32": torch.float32, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}


def read(path: str) -> dict:
    raw = bytearray(pathlib.Path(path).read_bytes())
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        part = torch.frombuffer(raw, dtype=torch.uint8, count=end - begin, offset=8 + size + begin) if end > begin else torch.empty(0, dtype=torch.uint8)
        tensors[name] = part.clone().view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors
