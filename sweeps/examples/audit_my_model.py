"""Audits a PyTorch model, from a DataLoader to a page: python sweeps/examples/audit_my_model.py [OUT]

Writes logits, masks and photos one image at a time, then runs `flipjax audit` on them: tables with intervals, which
class is taken for which, the images to look at (OUT/audit/index.html). Put your model and your data in place of the
made-up ones.
"""

import pathlib
import subprocess
import sys

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

NAMES = ["background", "cat", "dog"]


def write_predictions(model, loader, folder):
    """Writes what the audit reads: a file for each image, named alike in three folders."""
    for kind in ("logits", "labels", "images"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    index = 0
    for batch, truth in loader:
        with torch.inference_mode():
            logits = model(batch).cpu().numpy()
        for scores, mask, image in zip(logits, truth.numpy(), batch.numpy(), strict=True):
            np.save(folder / f"logits/{index:05}.npy", scores)
            Image.fromarray(mask.astype(np.uint8)).save(folder / f"labels/{index:05}.png")
            pixels = (255 * image.transpose(1, 2, 0)).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{index:05}.png")
            index += 1


def main(out="runs/my_model"):
    out = pathlib.Path(out)
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, len(NAMES), kernel_size=3, padding=1).eval()
    images, labels = torch.rand(12, 3, 24, 24), torch.randint(0, 3, (12, 24, 24))
    write_predictions(model, DataLoader(TensorDataset(images, labels), batch_size=4), out / "inputs")
    folders = [f"--{kind}={out / 'inputs' / kind}" for kind in ("logits", "labels", "images")]
    options = ["--channels=first", f"--class_names={','.join(NAMES)}", f"--out={out / 'audit'}"]
    return subprocess.run([sys.executable, "-m", "flipjax", "audit", *folders, *options], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
