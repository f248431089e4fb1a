"""Writes a run folder as a sweep leaves it, from made-up decompositions."""

import json
from pathlib import Path

import numpy as np

from flipjax.metrics import Decomposition
from flipjax.results import gallery
from flipjax.results.cells import StoredCell, StoredSplit, save_cell
from flipjax.results.frames import write_csv, write_results
from flipjax.results.rows import member_rows

CLASSES, SCENES = ("background", "hopper", "skimmer"), ("land", "water")
SCORES = ("max_softmax", "margin", "energy", "p_norm", "mirror", "grey_fill", "blur_fill")
END = {"epochs": 3, "best_epoch": 2, "selection": "val_loss"}


def decomposition_at(rho, seed, *, images=24, shift=0.0):
    """Counts whose flips in the rare groups grow with rho, and the groups of the images."""
    groups = np.arange(images) % 4
    generator = np.random.default_rng([seed, int(100 * rho)])
    share = np.where(np.isin(groups, (1, 2)), rho - 0.4, 0.1) + generator.normal(0, 0.1, images)
    flips = np.rint(100 * (np.clip(share, 0, 0.75) + shift)).astype(int)
    confusion = np.zeros((images, 3, 3), np.int32)
    image, label = np.arange(images), 1 + groups // 2
    confusion[image, label, label] = 100 - flips
    confusion[image, label, 3 - label] = flips
    confusion[:, 0, 0] = 400
    confusion[image, label, 0] = 5
    return Decomposition(confusion, (100 * generator.uniform(0, 0.69, images)).astype(np.float32)), groups


def gallery_of(member, decomposition, groups):
    """A gallery of noise."""
    pairs = np.arange(len(groups)) // 2
    indices, kinds = gallery.choose_images(decomposition, groups, pairs, riskiest=2, typical=2, paired=1)
    generator = np.random.default_rng(0)
    shape = (len(indices), 8, 8)
    images, labels = generator.uniform(size=(*shape, 3)), generator.integers(0, 3, shape)
    about = {"indices": indices, "groups": groups[indices], "kinds": kinds, "member": member}
    return gallery.make_gallery(images, labels, generator.normal(size=(*shape, 3)), **about)


def make_run(folder: Path, *, settings, status="finished", config=None, classes=CLASSES, images=24, shift=0.0):
    """Writes a run folder with a member per dict of axes in `settings`, the first two of them with images."""
    rows, members, history = [], {}, []
    for axes in settings:
        name = "_".join(f"{key}={value}" for key, value in axes.items())
        rho = axes.get("rho", 0.9)
        members[name], groups = decomposition_at(rho, axes["seed"], images=images, shift=shift)
        member = {"member": name, **axes, "status": status, **END}
        for part in ("val", "test"):
            rows += member_rows(member, members[name], groups, part=part, class_names=classes)
        for epoch in range(3):
            measures = {"valid_loss": 1 / (1 + epoch), "valid_worst_group_iou": 0.1 * epoch, "valid_flip": 0.2}
            history.append({"member": name, "epoch": epoch + 1, "train_loss": 1.0, **measures})
    write_results(folder, rows)
    write_csv(folder / "history.csv", history)
    part = StoredSplit(
        np.stack([d.confusion for d in members.values()])[None],
        np.stack([d.risk_sum for d in members.values()])[None],
        groups,
        np.arange(images) // 2,
        np.zeros((images, 2), int),
        scores=np.random.default_rng(0).normal(size=(len(members), images, len(SCORES))),
        masks=np.random.default_rng(1).integers(0, 128, (len(members), images, 2, 8)),
    )
    parts = {"val": part, "test": part}
    cell = StoredCell(tuple(members), ("val_loss",), classes, SCENES, parts, rows=tuple(rows), score_names=SCORES)
    save_cell(folder / "cells" / "only" / "decomposition.npz", cell)
    made = [gallery_of(name, members[name], groups) for name in [*members][:2]]
    gallery.save_gallery(folder / "cells" / "only" / "gallery.npz", gallery.concatenate_galleries(made))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
