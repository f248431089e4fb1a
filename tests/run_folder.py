"""Writes a run folder as a sweep leaves it, from made-up decompositions."""

import json
from pathlib import Path

import numpy as np
from flipjax.results.cells import StoredCell, StoredSplit, save_cell

from flipjax.groups import TWO_BY_TWO
from flipjax.metrics import Decomposition
from flipjax.results import gallery
from flipjax.results.frames import write_csv, write_results
from flipjax.results.rows import member_rows

CLASSES, SCENES = ("background", "hopper", "skimmer"), ("land", "water")
SCORES = ("max_softmax", "margin", "energy", "p_norm", "mirror", "grey_fill", "blur_fill")
END = {"epochs": 3, "best_epoch": 2, "selection": "val_loss"}
SETTINGS = [{"rho": rho, "seed": seed} for rho in (0.5, 0.9) for seed in (0, 1)]
IMAGES = 24
MEASURES = {"train_loss": 1.0, "valid_flip": 0.2}
HISTORY = [{"epoch": 1 + k, **MEASURES, "valid_loss": 1 / (1 + k), "valid_worst_group_iou": k / 10} for k in range(3)]


def counts_at(groups, *, rho=0.9, seed, shift=0.0, **_):
    """Counts whose flips in the rare groups of two classes grow with rho."""
    generator = np.random.default_rng([seed, int(100 * rho)])
    share = np.where(np.isin(groups, (1, 2)), rho - 0.4, 0.1) + generator.normal(0, 0.1, IMAGES)
    flips = np.rint(100 * (np.clip(share, 0, 0.75) + shift)).astype(int)
    confusion = np.zeros((IMAGES, 3, 3), np.int32)
    image, label = np.arange(IMAGES), 1 + groups // 2
    confusion[image, label, label] = 100 - flips
    confusion[image, label, 3 - label] = flips
    confusion[:, 0, 0] = 400
    confusion[image, label, 0] = 5
    return Decomposition(confusion, (100 * generator.uniform(0, 0.69, IMAGES)).astype(np.float32))


def gallery_of(member, decomposition, groups, pairs):
    """A gallery of noise."""
    indices, kinds = gallery.choose_images(decomposition, groups, pairs, riskiest=2, typical=2, paired=1)
    generator = np.random.default_rng(0)
    shape, classes = (len(indices), 8, 8), decomposition.confusion.shape[-1]
    images, labels = generator.uniform(size=(*shape, 3)), generator.integers(0, 3, shape)
    own = {"indices": indices, "groups": groups[indices], "kinds": kinds, "member": member}
    logits = generator.normal(size=(*shape, classes)).astype(np.float32)
    return gallery.make_gallery(images, labels, *gallery.maps_of(logits, labels), **own)


def make_run(
    folder: Path,
    settings=SETTINGS,
    *,
    status="finished",
    config=None,
    classes=CLASSES,
    scenes=SCENES,
    all_groups=TWO_BY_TWO,
    counts=counts_at,
    **options,
):
    """Writes a run folder with a member per dict of axes in `settings`, the first two of them with images."""
    groups = np.arange(IMAGES) % all_groups.count
    pairs = np.arange(IMAGES) // all_groups.scenes
    names = {"class_names": classes, "all_groups": all_groups}
    rows, members = [], {}
    for axes in settings:
        name = "_".join(f"{key}={value}" for key, value in axes.items())
        members[name] = counts(groups, **axes, **options)
        member = {"member": name, **axes, "status": status, **END}
        for part in ("val", "test"):
            rows += member_rows(member, members[name], groups, part=part, **names)
    write_results(folder, rows)
    write_csv(folder / "history.csv", [{"member": name, **epoch} for name in members for epoch in HISTORY])
    arrays = [np.stack([getattr(d, field) for d in members.values()])[None] for field in ("confusion", "risk_sum")]
    scores = np.random.default_rng(0).normal(size=(len(members), IMAGES, len(SCORES)))
    masks = np.random.default_rng(1).integers(0, 128, (len(members), IMAGES, 2, 8))
    part = StoredSplit(*arrays, groups, pairs, np.zeros((IMAGES, 2), int), scores=scores, masks=masks)
    stored = {"parts": {"val": part, "test": part}, "rows": tuple(rows), "score_names": SCORES}
    cell = StoredCell((*members,), ("val_loss",), classes, scenes, **stored, usual=all_groups.usual)
    save_cell(folder / "cells/only/decomposition.npz", cell)
    made = [gallery_of(name, members[name], groups, pairs) for name in [*members][:2]]
    gallery.save_gallery(folder / "cells/only/gallery.npz", gallery.concatenate_galleries(made))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
