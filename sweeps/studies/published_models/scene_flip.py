"""Whether scenes of the rival class make a model flip: the same cut-out on scenes of its own and its rival's class."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from context import SHOWN, ask_model, count_classes, count_others, draw_images, image_shares
from scenes import fill_objects

from flipjax.intervene.scenes import check_photos, paste, soft_edge
from flipjax.metrics.inputs.classes import Background, is_foreground

LARGEST = 0.25
"""Share of a photo that its objects may take, so that its scene is more than fill."""


class SceneFlip(NamedTuple):
    """What rival-class scenes add to own-class ones: numbers with their 95 % intervals over images, (3,) each.

    `flip`: share of segments that flip; `pixels`: share of their pixels that go to the rival; `log_odds`: nats of the
    rival against the class. `segments`: how many they are of.
    """

    flip: np.ndarray
    pixels: np.ndarray
    log_odds: np.ndarray
    segments: int


def scene_flip(
    predict: Callable[[Any], Any],
    images: Any,
    labels: Any,
    true: pd.DataFrame,
    *,
    rivals: Any = None,
    background: Background = 0,
    draws: int = 1,
    samples: int = 1000,
    seed: int = 0,
    batch: int = 8,
) -> SceneFlip:
    """Returns how much more a model flips the same cut-outs on scenes of their rival class than on those of their own.

    Scenes are other photos of the same set, their objects filled (`fill_objects`): one that shows the class and not
    the rival, one the other way round, both with objects on a quarter of the photo at most. Both composites have the
    same seam, so that it is no cause, which a comparison with the photo itself or with grey or blurred scenes has.

    Args:
        predict: images (b, H, W, channels) to logits (b, H, W, C).
        images: (n, H, W, channels) floating point.
        labels: int (n, H, W); what is not background, ignored pixels too, is object. A segment is all pixels of its
            class.
        true: of `flipjax.metrics.segments` of these labels with `unit="class"`, S rows.
        rivals: int (S,), -1 for none; None: the class that a segment's class flips to most often in other images.
        background: the class that is background, or several in a tuple.
        draws: scenes of each kind a segment.
        samples: resamples of images.
        seed: of the draws and resamples.
        batch: images at once.

    Returns:
        `SceneFlip`. Costs 2 `draws` passes a segment.

    Raises:
        TypeError, ValueError: images, labels, rivals or logits that do not fit, or no segment has scenes of both kinds.
    """
    images, labels = check_photos(images, labels)
    if rivals is None:
        others = count_others(true, num_classes=count_classes(true))
        rivals = np.where(others.any(1), others.argmax(1), -1)
    rivals = np.asarray(rivals, np.int64)
    if rivals.shape != (len(true),):
        raise ValueError(f"rivals: expected {len(true)} classes, one a segment, found shape {rivals.shape}.")
    rows, donors = _draw_scenes(true, labels, rivals, background=background, draws=draws, seed=seed)
    image, own = (true[name].to_numpy(np.int64)[rows] for name in ("image", "class"))
    values = np.zeros((2, len(rows), 3))
    for side, first in itertools.product((0, 1), range(0, len(rows), batch)):
        some = slice(first, first + batch)
        regions = labels[image[some]] == own[some, None, None]
        scenes = fill_objects(images[donors[side, some]], _objects(labels[donors[side, some]], background))
        pasted = paste(images[image[some]], soft_edge(regions), scenes)
        logits = ask_model(predict, pasted, classes=count_classes(true), background=background)
        values[side, some] = _outcomes(logits, regions, own[some], rivals[rows[some]], background=background)
    change = values[1] - values[0]
    place, counts = draw_images(image, np.random.default_rng(seed), samples=samples)
    sums = np.zeros((counts.shape[1], 4))
    np.add.at(sums, place, np.column_stack([change, np.ones(len(change))]))
    drawn = (counts @ sums)[:, :3] / (counts @ sums)[:, 3:]
    intervals = np.stack([change.mean(0), *np.percentile(drawn, (2.5, 97.5), axis=0)], axis=1)
    return SceneFlip(intervals[0], intervals[1], intervals[2], len(np.unique(rows)))


def _outcomes(
    logits: np.ndarray, regions: np.ndarray, own: np.ndarray, rival: np.ndarray, *, background: Background
) -> np.ndarray:
    """Returns of cut-outs on scenes (b, 3): whether they flip, the share of the rival's pixels, its log-odds."""
    C = logits.shape[-1]
    here = np.arange(len(own))
    size = regions.sum((1, 2))
    cells = np.nonzero(regions)[0] * C + logits.argmax(-1)[regions]
    share = np.bincount(cells, minlength=len(own) * C).reshape(-1, C) / size[:, None]
    wrong = share.argmax(1)
    flip = (wrong != own) & is_foreground(C, background)[wrong] & (share.max(1) >= 0.5)
    mean = (logits * regions[..., None]).sum((1, 2)) / size[:, None]
    return np.stack([flip, share[here, rival], mean[here, rival] - mean[here, own]], axis=1)


def _draw_scenes(
    true: pd.DataFrame, labels: np.ndarray, rivals: np.ndarray, *, background: Background, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows that have scenes of both kinds, (R,), each `draws` times, and those photos, (2, R)."""
    shows = image_shares(list(labels), num_classes=count_classes(true)) >= SHOWN
    small = _objects(labels, background).mean((1, 2)) <= LARGEST
    generator = np.random.default_rng(seed)
    rows, donors = [], []
    for row, (image, c, r) in enumerate(zip(true["image"], true["class"], rivals, strict=True)):
        other = small & (np.arange(len(labels)) != image)
        fitting = [np.flatnonzero(shows[:, a] & ~shows[:, b] & other) for a, b in ((c, r), (r, c))]
        if r >= 0 and all(map(len, fitting)):
            rows += [row] * draws
            donors.append(np.stack([generator.choice(places, draws) for places in fitting]))
    if not rows:
        raise ValueError(
            f"true: expected segments with photos of their class alone and of their rival alone, objects on at most "
            f"{LARGEST:.0%} of them, found none of {len(true)}."
        )
    return np.array(rows), np.concatenate(donors, axis=1)


def _objects(labels: np.ndarray, background: Background) -> np.ndarray:
    return ~np.isin(labels, () if background is None else background)
