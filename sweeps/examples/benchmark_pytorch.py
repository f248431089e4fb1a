"""Trains a PyTorch model on the images of a sweep's member, and scores it beside the sweep's own members.

Command: python sweeps/examples/benchmark_pytorch.py [CONFIG [EPOCHS]]

CONFIG is smoke unless told otherwise, flips-1 the benchmark with a table of results; its member is rho 0.9, seed 0. Put
your model and your training in place.
"""

import sys

import numpy as np
import torch
from torch.nn import functional

from flipjax import data, results
from flipjax.models import TorchUNet


def channels_first(images):
    return torch.from_numpy(np.moveaxis(images, -1, 1).copy())


if __name__ == "__main__":
    config = sys.argv[1] if len(sys.argv) > 1 else "smoke"
    epochs = sys.argv[2] if len(sys.argv) > 2 else "15"
    images = data.benchmark(config, rho=0.9, seed=0)
    torch.manual_seed(0)
    model = TorchUNet(num_classes=len(images.class_names))
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
