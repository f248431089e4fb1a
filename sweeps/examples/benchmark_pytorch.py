"""Trains a PyTorch model on the images of a sweep's member, and scores it beside the sweep's own members.

Command: python sweeps/examples/benchmark_pytorch.py [CONFIG [EPOCHS]]

CONFIG is smoke unless told otherwise, flips-1 the benchmark with a table of results; its member is rho 0.9, seed 0. Put
your model and your training in place.
"""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from flipjax import data, results


def block(inputs, outputs):
    pair = [
        [nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()] for i in (inputs, outputs)
    ]
    return nn.Sequential(*pair[0], *pair[1])


class UNet(nn.Module):
    """The sweep's U-Net: width 8, depth 3, nearest upsampling."""

    def __init__(self, num_classes, widths=(8, 16, 32)):
        super().__init__()
        self.encoder = nn.ModuleList(block(i, o) for i, o in zip((3, *widths), widths, strict=False))
        self.decoder = nn.ModuleList(block(d + s, s) for d, s in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images):
        skips = []
        for level, encode in enumerate(self.encoder):
            images = encode(functional.max_pool2d(images, 2) if level else images)
            skips.append(images)
        for decode, skip in zip(self.decoder, skips[-2::-1], strict=True):
            images = decode(torch.cat([functional.interpolate(images, scale_factor=2.0), skip], 1))
        return self.head(images)


def channels_first(images):
    return torch.from_numpy(np.moveaxis(images, -1, 1).copy())


if __name__ == "__main__":
    config = sys.argv[1] if len(sys.argv) > 1 else "smoke"
    epochs = sys.argv[2] if len(sys.argv) > 2 else "15"
    images = data.benchmark(config, rho=0.9, seed=0)
    torch.manual_seed(0)
    model = UNet(num_classes=len(images.class_names))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    inputs, masks = channels_first(images.train.images), torch.from_numpy(images.train.masks).long()
    for _ in range(int(epochs)):
        for batch in torch.randperm(len(inputs)).split(16):
            loss = functional.cross_entropy(model(inputs[batch]), masks[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(batch) for batch in channels_first(images.test.images).split(16)])
    rows = results.score(logits, images, channels="first", method="pytorch")
    # Below those of a run: pandas.concat([results.load("runs/smoke").results, rows]).
    print(rows[["method", "rho", "group", "n_images", "fg_correct", "fg_flip", "fg_miss"]].to_string(index=False))
