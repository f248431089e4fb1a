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


def gallery_of(member, decomposition, groups, *, shown, size=8):
    """A gallery of noise."""
    pairs = np.arange(len(groups)) // 2
    indices, kinds = gallery.choose_images(decomposition, groups, pairs, riskiest=shown, typical=shown, paired=1)
    generator = np.random.default_rng(0)
    R = len(indices)
    images, labels = generator.uniform(size=(R, size, size, 3)), generator.integers(0, 3, (R, size, size))
    logits = generator.normal(size=(R, size, size, 3))
    return gallery.make_gallery(
        images, labels, logits, indices=indices, groups=groups[indices], kinds=kinds, member=member
    )


def make_run(
    folder: Path,
    *,
    settings,
    status="finished",
    config=None,
    classes=CLASSES,
    images=24,
    shift=0.0,
    epochs=3,
    galleries=2,
    shown=2,
    size=8,
):
    """Writes a run folder with a member per dict of axes in `settings`, `galleries` of them with images."""
    rows, members, history = [], [], []
    for axes in settings:
        name = "_".join(f"{key}={value}" for key, value in axes.items())
        decomposition, groups = decomposition_at(axes.get("rho", 0.9), axes["seed"], images=images, shift=shift)
        members.append((name, decomposition))
        member = {"member": name, **axes, "status": status, **END}
        for part in ("val", "test"):
            rows += member_rows(member, decomposition, groups, part=part, class_names=classes)
        for epoch in range(epochs):
            measures = {"valid_loss": 1 / (1 + epoch), "valid_worst_group_iou": 0.1 * epoch, "valid_flip": 0.2}
            history.append({"member": name, "epoch": epoch + 1, "train_loss": 1.0, **measures})
    write_results(folder, rows)
    write_csv(folder / "history.csv", history)
    part = StoredSplit(
        np.stack([d.confusion for _, d in members])[None],
        np.stack([d.risk_sum for _, d in members])[None],
        groups,
        np.arange(images) // 2,
        np.zeros((images, 2), int),
        scores=np.random.default_rng(0).normal(size=(len(members), images, len(SCORES))),
        masks=np.random.default_rng(1).integers(0, 128, (len(members), images, 2, 8)),
    )
    cell = StoredCell(
        tuple(name for name, _ in members),
        ("val_loss",),
        classes,
        SCENES,
        {"val": part, "test": part},
        rows=tuple(rows),
        score_names=SCORES,
    )
    save_cell(folder / "cells" / "only" / "decomposition.npz", cell)
    made = [gallery_of(*member, groups, shown=shown, size=size) for member in members[:galleries]]
    gallery.save_gallery(folder / "cells" / "only" / "gallery.npz", gallery.concatenate_galleries(made))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
