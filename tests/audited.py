"""Runs of the audit's command line, and what they wrote."""

import csv
import json

import numpy as np
import pandas as pd
from PIL import Image

from flipjax.audit.__main__ import main


def audit(folder, *arguments, code=0):
    """Runs the command line and reads summary.json."""
    assert main([*map(str, arguments), f"--out={folder}"]) == code
    return json.loads((folder / "summary.json").read_text())


def refused(capsys, *arguments):
    """Runs the command line, which must refuse in one line, and returns the line."""
    assert main(list(map(str, arguments))) == 2
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("[") and " of " not in line[:14]]
    assert len(lines) == 1 and lines[0].startswith("flipjax audit: ")
    return lines[0]


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def segments_of(folder):
    stored = folder / "segments.parquet"
    return pd.read_parquet(stored) if stored.is_file() else pd.read_csv(stored.with_suffix(".csv"))


def save_pictures(folder, pictures, names, suffix="png"):
    """Writes photos, and masks with a palette."""
    folder.mkdir(parents=True)
    for name, picture in zip(names, pictures, strict=True):
        image = Image.fromarray(picture)
        if picture.ndim == 2:
            image.putpalette(np.arange(768).astype(np.uint8).tobytes())
        image.save(folder / f"{name}.{suffix}")
    return folder


def save_masks(folder, predictions, labels, names=None):
    """Writes masks in two folders, and returns the options that name them."""
    names = names or [f"i{i}" for i in range(len(labels))]
    for field, stack in (("predictions", predictions), ("labels", labels)):
        save_pictures(folder / field, stack, names)
    return [f"--predictions={folder}/predictions", f"--labels={folder}/labels", "--kind=masks"]
