"""Asks published models about photos: python sweeps/studies/published_models/ask.py DATA OUT [--photos DIR]

Writes OUT/NAME.npz of each model of published.py, and passes over those that are there. Needs PyTorch.
All photos are asked about for flips, those that published.COUNTS counts on other scenes, too.
"""

import argparse
import pathlib
import sys
import warnings

import context
import numpy as np
import published
import scene_flip
from PIL import Image

from flipjax import intervene, metrics, monitor

CUTOUTS = 24
"""Cats, and as many dogs, that stand on scenes which training did not show; DIR holds their photos and masks."""
OPTIONS = {"kind": "masks", "num_classes": 21, "ignore_index": published.VOID}


def region_rows(logits, labels, first):
    """Returns rows of predicted objects: image, label, true class of most of it, pixels, flip-risk, maximum softmax."""
    numbers = intervene.find_regions(logits)
    scores = monitor.region_scores(logits)
    truth, pixels = [], []
    for image, number in zip(scores.image, _numbers(scores.image), strict=True):
        own = labels[image][numbers[image] == number]
        known = own[own != published.VOID]
        truth.append(np.bincount(known, minlength=21).argmax() if len(known) else -1)
        pixels.append(len(own))
    rows = [scores.image + first, scores.label, truth, pixels, scores.flip_risk, scores.max_softmax]
    return np.column_stack(rows)


def _numbers(images):
    """Returns the place of each region within its image, from 1 on."""
    start = np.searchsorted(images, images)
    return np.arange(len(images)) - start + 1


def swap(predict, images, logits, scenes):
    """Returns log-odds of predicted objects on scenes, (N, K, 20)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(intervene.scene_marginal(predict, images, scenes, logits=logits, regions="objects"))


def ask_photos(predict, images, labels, scenes, *, swapped):
    """Returns predicted classes of all photos; regions and their log-odds on scenes of the photos `swapped`."""
    masks, rows, odds = [], [], []
    for first in range(0, len(images), 10):
        some = images[first : first + 10].astype(np.float32) / 255
        logits = predict(some)
        masks.append(logits.argmax(-1).astype(np.uint8))
        if first in swapped:
            rows.append(region_rows(logits, labels[first : first + 10], first))
            odds.append(swap(predict, some, logits, scenes))
    return {"masks": np.concatenate(masks), "regions": np.concatenate(rows), "odds": np.concatenate(odds)}


def ask_composites(predict, folder, scenes):
    """Returns of cats and dogs on forest, sea and their own photo the place, class, label, flip-risk and log-odds."""
    rows, odds = [], []
    size = (published.SIDE, published.SIDE)
    for name, c in (("cat", 8), ("dog", 12)):
        paths = sorted((folder / "cutouts" / name).glob("*.png"))[:CUTOUTS]
        masks = np.stack([np.asarray(Image.open(path).convert("L").resize(size)) for path in paths]) > 127
        photos = [Image.open(path.with_suffix(".jpg")).convert("RGB").resize(size) for path in paths]
        photos = np.stack([np.asarray(each) for each in photos]).astype(np.float32) / 255
        for place, scene in enumerate((scenes[1], scenes[3], None)):
            images = photos if scene is None else np.asarray(intervene.paste(photos, intervene.soft_edge(masks), scene))
            for first in range(0, len(images), 8):
                some = images[first : first + 8]
                logits = predict(some)
                found = np.asarray(intervene.scene_marginal(predict, some, scenes[[0, 2]], logits=logits))
                label = np.asarray(intervene.region_label(logits))
                risk = np.asarray(metrics.flip_risk(logits))
                rows.append(np.column_stack([np.full(len(some), place), np.full(len(some), c), label, risk]))
                odds.append(found)
    return {"composites": np.concatenate(rows), "composite_odds": np.concatenate(odds)}


def ask_model(predict, images, labels, splits, scenes):
    """Returns all that is asked of a model about photos, in the order that `study.py` reads."""
    places = [np.flatnonzero(splits == split) for split in ("val", "train_aug")]
    first = [each[:n] for each, n in zip(places, published.COUNTS, strict=True)]
    order = np.concatenate([*first, np.setdiff1d(np.arange(len(images)), np.concatenate(first))])
    images, labels = images[order], labels[order]
    val, asked = published.COUNTS[0], sum(published.COUNTS)
    answer = {"order": order, "asked": asked}
    answer |= ask_photos(predict, images, labels, scenes[[0, 2]], swapped=range(0, asked, 10))
    true = metrics.segments(answer["masks"], labels, **OPTIONS)
    true = true[true["image"] < asked].reset_index(drop=True)
    scaled = images[:asked].astype(np.float32) / 255
    answer["shift"] = context.segment_shift(predict, scaled, labels[:asked], true, scenes[:1])
    predicted = metrics.segments(answer["masks"], answer["masks"], **OPTIONS)
    predicted = predicted[predicted["image"] < val].reset_index(drop=True)
    answer["predicted_shift"] = context.segment_shift(predict, scaled, answer["masks"][:asked], predicted, scenes[:1])
    for part, start, end in (("val", 0, val), ("train", val, asked)):
        own = true[(true["image"] >= start) & (true["image"] < end)].reset_index(drop=True)
        own["image"] -= start
        flips = scene_flip.scene_flip(predict, scaled[start:end], labels[start:end], own)
        answer[f"scene_flip_{part}"] = np.stack([*flips[:3], np.full(3, flips.segments)])
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--photos", type=pathlib.Path, help="folder with cutouts/cat and cutouts/dog")
    parser.add_argument("--model", choices=published.MODELS, help="one alone")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    _, images, labels, splits = published.load_photos(options.data)
    scenes = published.load_scenes(options.data)
    for name in published.MODELS:
        path = options.out / f"{name.replace(' ', '_')}.npz"
        if path.exists() or options.model not in (None, name):
            continue
        predict = published.load_model(options.data, name)
        answer = ask_model(predict, images, labels, splits, scenes)
        if options.photos:
            answer |= ask_composites(predict, options.photos, scenes)
        np.savez_compressed(path, **answer)
        print(path, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
