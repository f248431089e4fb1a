"""beta of two published models on VOC-val, against the trial's intervals; needs PyTorch and some minutes.

The trial took flip rates from twice to eight times as many photos. Research data outside of the repository: skipped
where it or PyTorch is absent.
"""

import argparse
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flipjax import context
from flipjax.metrics import segments

MANY = pathlib.Path(__file__).parents[2] / "shared" / "many"
SIZE = (256, 256)


def predict(scale, names):
    """What ESPNetv2 of a scale says of photos: uint8 (n, 256, 256)."""
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    sys.path.insert(0, str(MANY / "EdgeNets"))
    try:
        from model.segmentation.espnetv2 import ESPNetv2Segmentation
    finally:
        sys.path.pop(0)
    options = argparse.Namespace(s=float(scale), channels=3, num_classes=1000, model_width=224, model_height=224)
    model = ESPNetv2Segmentation(options, classes=21, dataset="pascal").eval()
    path = MANY / "weights" / f"espnetv2_s_{scale}_pascal_256x256.pth"
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    answers = []
    for first in range(0, len(names), 8):
        photos = [Image.open(MANY / "voc" / "images" / f"{name}.jpg") for name in names[first : first + 8]]
        pixels = np.stack(
            [np.asarray(photo.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR)) for photo in photos]
        )
        with torch.inference_mode():
            logits = model((torch.tensor(pixels).permute(0, 3, 1, 2) / 255 - mean) / deviation)
        answers.append(logits.argmax(1).numpy().astype(np.uint8))
    return np.concatenate(answers)


@pytest.mark.parametrize(("scale", "low", "high", "seg_flip"), [("2.0", 0.15, 0.72, 0.126), ("1.0", 0.31, 0.91, 0.205)])
def test_beta_lies_in_the_interval_of_the_trial(scale, low, high, seg_flip):
    if not MANY.is_dir():
        pytest.skip(f"no {MANY}")
    listed = pd.read_csv(MANY / "voc" / "images.csv")
    names = listed["name"][listed["split"] == "val"].tolist()
    predictions = predict(scale, names)
    masks = [
        Image.open(MANY / "voc" / "masks" / f"{name}.png").resize(SIZE, Image.Resampling.NEAREST) for name in names
    ]
    labels = np.stack([np.asarray(mask) for mask in masks])
    true = segments(predictions, labels, kind="masks", num_classes=21, ignore_index=255, unit="component")
    with np.load(MANY / "voc" / "class_shares_12031.npz") as stored:
        shares = stored["share"][stored["train_aug"]]
    beta = context.context_beta(true, context.context_evidence(true, shares))
    assert low <= beta.beta <= high and beta.low > max(0, beta.shuffled - 0.05)
    assert abs((true["outcome"] == "flip").mean() - seg_flip) < 0.01
