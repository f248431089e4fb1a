"""Published models of EdgeNets and the photos they are asked about; needs PyTorch. Nothing of it is stored here.

DATA is a folder with `voc` (images, masks, images.csv, class_shares_12031.npz), `weights` and `EdgeNets`.
"""

import argparse
import sys

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 256
CLASSES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
VOID = 255
MODELS = {
    "ESPNetv2 2.0": ("espnetv2", "2.0"),
    "DiCENet 1.75": ("dicenet", "1.75"),
    "ESPNetv2 1.0": ("espnetv2", "1.0"),
    "ESPNetv2 0.5": ("espnetv2", "0.5"),
}
"""Family and scale of each."""
COUNTS = (150, 50)
"""How many photos of VOC-val and of training each is asked about on other scenes, the first that are listed."""
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def load_model(data, name):
    """Returns a callable from images (b, 256, 256, 3) in 0..1 to logits (b, 256, 256, 21)."""
    import torch

    torch.set_num_threads(1)
    family, scale = MODELS[name]
    sys.path.insert(0, str(data / "EdgeNets"))
    from model.segmentation.dicenet import DiCENetSegmentation
    from model.segmentation.espnetv2 import ESPNetv2Segmentation

    sys.path.pop(0)
    build = ESPNetv2Segmentation if family == "espnetv2" else DiCENetSegmentation
    sizes = argparse.Namespace(s=float(scale), channels=3, num_classes=1000, model_width=224, model_height=224)
    model = build(sizes, classes=21, dataset="pascal")
    path = data / "weights" / f"{family}_s_{scale}_pascal_{SIDE}x{SIDE}.pth"
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model = model.eval().to(memory_format=torch.channels_last)

    def predict(images):
        scaled = (np.asarray(images, np.float32) - MEAN) / DEVIATION
        with torch.inference_mode():
            return model(torch.from_numpy(scaled).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous().numpy()

    return predict


def load_scenes(data):
    """Returns forest, forest, sea, sea and grey, float32 (5, 256, 256, 3) in 0..1."""
    with np.load(data / "voc/scenes.npz") as stored:
        return stored["scenes"].astype(np.float32)


def load_photos(data):
    """Returns names, images uint8 (n, 256, 256, 3), labels (n, 256, 256) and splits of VOC's photos, VOC-val first."""
    listed = pd.read_csv(data / "voc/images.csv").sort_values("split", ascending=False, kind="stable")
    names = listed["name"]
    photos = [Image.open(data / f"voc/images/{name}.jpg").convert("RGB") for name in names]
    masks = [Image.open(data / f"voc/masks/{name}.png") for name in names]
    size = (SIDE, SIDE)
    images = np.stack([np.asarray(each.resize(size, Image.Resampling.BILINEAR)) for each in photos])
    labels = np.stack([np.asarray(each.resize(size, Image.Resampling.NEAREST)) for each in masks])
    return names.tolist(), images, labels, listed["split"].to_numpy()


def load_shares(data, names):
    """Returns class shares (10582, 21) of the training labels, and the row of each photo in them, -1 for none."""
    with np.load(data / "voc/class_shares_12031.npz") as stored:
        inside = stored["train_aug"]
        rows = {name: row for row, name in enumerate(stored["names"][inside].tolist())}
        return stored["share"][inside], np.array([rows.get(name, -1) for name in names])
