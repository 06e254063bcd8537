#!/usr/bin/env python3
"""Images a second that torchvision's or DALI's loader brings from a folder of class folders, as uint8 batches of
32 images of 224 x 224, for each number of workers; prints one JSON object a line.

torchvision: ImageFolder and DataLoader. DALI: on the CPU. Augmentation `light`: random resized crop (area 0.6 to 1)
and flip. Whole epochs are timed, after one that is not; the files are in the system's cache then."""
import argparse
import json
import os
import time

BATCH, SIZE = 32, 224


def timed(epoch, seconds):
    """Runs epoch() (which returns its number of images) until `seconds` have passed; images a second."""
    epoch()
    begin, images = time.perf_counter(), 0
    while images == 0 or time.perf_counter() - begin < seconds:
        images += epoch()
    return images / (time.perf_counter() - begin)


def torchvision_rate(data, augment, workers, seconds):
    import torch
    from torchvision import datasets, transforms

    torch.set_num_threads(1)
    if augment == "light":
        steps = [transforms.RandomResizedCrop(SIZE, scale=(0.6, 1.0)), transforms.RandomHorizontalFlip()]
    else:
        steps = [transforms.Resize((SIZE, SIZE))]
    folder = datasets.ImageFolder(data, transforms.Compose([*steps, transforms.PILToTensor()]))
    loader = torch.utils.data.DataLoader(
        folder, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True
    )
    return timed(lambda: sum(len(images) for images, _ in loader), seconds)


def dali_rate(data, augment, workers, seconds):
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=workers, device_id=None, seed=0)
    def pipeline():
        files, labels = fn.readers.file(file_root=data, random_shuffle=True, name="files")
        if augment == "light":
            images = fn.decoders.image_random_crop(files, random_area=[0.6, 1.0], output_type=types.RGB)
        else:
            images = fn.decoders.image(files, output_type=types.RGB)
        images = fn.resize(images, resize_x=SIZE, resize_y=SIZE, antialias=True)
        if augment == "light":
            images = fn.flip(images, horizontal=fn.random.coin_flip())
        return images, labels

    pipe = pipeline()
    pipe.build()
    steps = pipe.epoch_size("files") // BATCH

    def epoch():
        for _ in range(steps):
            pipe.run()
        return steps * BATCH

    return timed(epoch, seconds)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("peer", choices=["torchvision", "dali"])
    p.add_argument("data")
    p.add_argument("--augment", choices=["none", "light"], default="none")
    p.add_argument("--workers", default="1,2,3,4")
    p.add_argument("--seconds", type=float, default=4)
    a = p.parse_args()
    rate = torchvision_rate if a.peer == "torchvision" else dali_rate
    for workers in map(int, a.workers.split(",")):
        images_per_s = rate(a.data, a.augment, workers, a.seconds)
        print(
            json.dumps(
                {
                    "peer": a.peer,
                    "data": os.path.basename(os.path.normpath(a.data)),
                    "augment": a.augment,
                    "workers": workers,
                    "images_per_s": round(images_per_s, 1),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
