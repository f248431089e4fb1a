"""From a PyTorch checkpoint to the page of an audit: the example to take for a model of yours.

    python sweeps/scene_swap/audit_checkpoint.py PHOTOS OUT/rho0.95-seed20.safetensors PAGE

Writes logits, masks, groups and photos of the test images to PAGE/inputs, and the audit to PAGE/audit. Only the two
lines that load a model and make the images are about this study; the files are what `flipjax audit` takes of anybody.
"""

import argparse
import csv
import pathlib

import numpy as np
from PIL import Image
from pretrained import as_callable, load_model, study

from flipjax.audit.__main__ import main as audit
from flipjax.data.pool import gather


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photos", "checkpoint", "page"):
        parser.add_argument(name, type=pathlib.Path)
    for name, default in {"size": 96, "n_val": 128, "n_test": 400, "seed": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    predict = as_callable(load_model(options.checkpoint))
    data = study(options.photos, seed=options.seed, n_val=options.n_val, n_test=options.n_test, size=options.size)
    inputs = {name: options.page / "inputs" / name for name in ("logits", "labels", "images")}
    for folder in inputs.values():
        folder.mkdir(parents=True, exist_ok=True)
    rows = [("name", "group")]
    for index, (row, group) in enumerate(zip(data.tables["test"].rows, data.tables["test"].groups, strict=True)):
        image, labels = map(np.asarray, gather(data.pool, row))
        np.save(inputs["logits"] / f"{index:04}.npy", predict(image[None])[0])
        Image.fromarray(labels.astype(np.uint8)).save(inputs["labels"] / f"{index:04}.png")
        Image.fromarray((255 * image).round().astype(np.uint8)).save(inputs["images"] / f"{index:04}.png")
        rows.append((f"{index:04}", group))
    with (options.page / "inputs" / "groups.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    names = ",".join(data.catalog.class_names)
    words = [f"--{name}={folder}" for name, folder in inputs.items()]
    groups = f"--groups={options.page / 'inputs' / 'groups.csv'}"
    return audit([*words, groups, f"--class_names={names}", f"--out={options.page / 'audit'}"])


if __name__ == "__main__":
    raise SystemExit(main())
