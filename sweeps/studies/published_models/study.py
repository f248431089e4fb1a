"""What published models do on photos, from their answers: python sweeps/studies/published_models/study.py DATA ANSWERS

Reads what ask.py wrote. Writes results.csv, flip_matrix.csv and context.png beside this file, and a picture
of the same flip with its photo into ANSWERS: photos stay there.
"""

import argparse
import pathlib
import warnings

import context
import figure
import natural_gap
import numpy as np
import pandas as pd
import published
from ask import OPTIONS
from scenes import cluster_scenes, scene_evidence, scene_features

from flipjax import intervene, metrics
from flipjax.metrics.objects.rates import segment_auroc
from flipjax.metrics.objects.units import STRATA
from flipjax.metrics.statistics import selective

HERE = pathlib.Path(__file__).parent
SAMPLES = 1000
CAMVID = ((10,), (2, 3), (5,), (0,), (1,), (8, 9), (6, 7), (4,), (13, 14, 15, 16), (11,), (12, 17, 18))
"""The Cityscapes classes that each of CamVid's is made of."""
SCORES = ("flip_risk", "max_softmax", "swap_quota", "swap_zero")


def photo_scenes(images, labels):
    """Returns the cluster of each photo's scene, and the class shares of each photo."""
    small = images[:, ::2, ::2].astype(np.float32) / 255
    features = [scene_features(small[i : i + 50], labels[i : i + 50, ::2, ::2] > 0) for i in range(0, 900, 50)]
    return cluster_scenes(np.concatenate(features)), context.image_shares(labels, num_classes=21)


def about_flips(true, evidence, kept, told):
    """Yields rows: SegFlip, bleeding, beta by classes, by scenes of the segments kept, and NaturalGap."""
    whole = metrics.segment_flips(true).loc["all"]
    yield "segments", whole["segments"], np.nan, np.nan
    yield "SegFlip", whole["seg_flip"], whole["seg_flip_low"], whole["seg_flip_high"]
    yield "share of flips that bleed", whole["bleeding"], np.nan, np.nan
    for name, rows, each in (("beta", true, evidence), ("beta, scenes", kept, told)):
        beta = context.context_beta(rows, each, samples=SAMPLES)
        yield name, beta.beta, beta.low, beta.high
        yield f"{name}, shuffled", beta.shuffled, np.nan, np.nan
        yield f"{name}, within", beta.within, np.nan, np.nan
    gap = natural_gap.natural_gap(true, evidence, samples=SAMPLES)
    yield "NaturalGap", gap.gap, gap.low, gap.high


def regions_of(answer, chosen):
    """Returns predicted objects of the photos `chosen` (bool) with a true class, their scores and repaired classes."""
    columns = ["image", "label", "truth", "pixels", "flip_risk", "max_softmax"]
    table = pd.DataFrame(answer["regions"], columns=columns)
    usual = ~answer["is_val"][table["image"].to_numpy(int)]
    prior = intervene.label_shares(table["label"][usual].astype(int), num_classes=21)
    chosen = chosen[table["image"].to_numpy(int)] & (table["truth"] > 0).to_numpy()
    odds = answer["odds"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        centers = {
            "quota": np.asarray(intervene.split_point(odds, prior=prior)),
            "zero": np.zeros(20, np.float32),
            "median": np.asarray(intervene.split_point(odds, center="median")),
        }
    for name, center in centers.items():
        relative = odds.mean(1) - center
        label = table["label"].to_numpy(int) - 1
        here = np.arange(len(relative))
        others = relative.copy()
        others[here, label] = -np.inf
        table[f"swap_{name}"] = others.max(1) - np.where(np.isfinite(relative[here, label]), relative[here, label], -99)
        table[f"repaired_{name}"] = relative.argmax(1) + 1
    table["right"] = table["label"] == table["truth"]
    table["stratum"] = np.digitize(table["pixels"] / published.SIDE**2, STRATA)
    return table[chosen & (table["pixels"] >= 66)].reset_index(drop=True)


def about_regions(table):
    """Yields rows: AUROC of scores over all sizes and within strata, and right regions before and after repair."""
    images = table["image"].unique()
    generator = np.random.default_rng(0)
    groups = {image: rows.index.to_numpy() for image, rows in table.groupby("image")}
    draws = [np.concatenate([groups[i] for i in generator.choice(images, len(images))]) for _ in range(200)]

    def interval(statistic):
        drawn = [statistic(table.iloc[rows]) for rows in draws]
        return statistic(table), *np.nanpercentile(drawn, (2.5, 97.5))

    yield "regions", len(table), np.nan, np.nan
    yield "right regions", table["right"].mean(), np.nan, np.nan
    for stratum in ("all", "within strata"):
        base = segment_auroc(table, score="flip_risk").loc[stratum]
        yield f"AUROC of size, {stratum}", base["size_auroc"], np.nan, np.nan
        yield f"AUROC of flip_risk, {stratum}", base["auroc"], np.nan, np.nan
    for score in SCORES[1:]:
        yield (
            f"AUROC of {score} less flip_risk, within strata",
            *interval(
                lambda rows, score=score: (
                    segment_auroc(rows, score=score).loc["within strata", "auroc"]
                    - segment_auroc(rows, score="flip_risk").loc["within strata", "auroc"]
                )
            ),
        )
    for center in ("quota", "zero", "median"):

        def change(rows, center=center):
            return ((rows[f"repaired_{center}"] == rows["truth"]) * 1.0 - rows["right"]).mean()

        yield f"right regions, repair with {center} less plain", *interval(change)


def about_composites(answer):
    """Yields rows of cats and dogs on forest and sea and in their own photos: right before and after repair, AUROCs."""
    place, truth, label, risk = answer["composites"].T
    odds = answer["composite_odds"]
    found = np.isfinite(odds).all((1, 2))
    place, truth, label, risk, odds = (each[found] for each in (place, truth, label, risk, odds))
    prior = intervene.label_shares(label[place == 2].astype(int), num_classes=21)
    foreign = place < 2
    quota = np.asarray(intervene.split_point(odds[foreign], prior=prior))
    even = np.asarray(intervene.split_point(odds[foreign], center="median"))
    generator = np.random.default_rng(0)
    for name, rows in (("forest and sea", foreign), ("own photo", place == 2)):
        wrong = label[rows] != truth[rows]
        yield f"composites, {name}: right", (~wrong).mean(), np.nan, np.nan
        n = int(rows.sum())
        draws = generator.integers(0, n, (500, n))
        for center, points in (("quota", quota), ("median", even)):
            relative = odds[rows].mean(1) - points
            change = (relative.argmax(1) + 1 == truth[rows]) * 1.0 - ~wrong
            ends = np.percentile(change[draws].mean(1), (2.5, 97.5))
            yield f"composites, {name}: right, repair with {center} less plain", change.mean(), *ends
            own = label[rows].astype(int) - 1
            others = relative.copy()
            others[np.arange(n), own] = -np.inf
            mine = relative[np.arange(n), own]
            swap = others.max(1) - np.where(np.isfinite(mine), mine, -99)
            gain = [
                selective.auroc(swap[d], wrong[d]) - selective.auroc(risk[rows][d], wrong[d])
                for d in draws
                if 0 < wrong[d].sum() < n
            ]
            value = selective.auroc(swap, wrong) - selective.auroc(risk[rows], wrong)
            ends = np.percentile(gain, (2.5, 97.5)) if gain else (np.nan, np.nan)
            yield f"composites, {name}: AUROC of scene swap ({center}) less flip-risk", value, *ends


def about_camvid(data):
    """Returns rows of CamVid's stored predictions, whose contexts are those of its own other images."""
    paths = sorted((data / "camvid/labels").glob("*.png"))
    own = np.zeros(256, np.uint8)
    for c, trained in enumerate(CAMVID):
        own[list(trained)] = c
    read = figure.read_mask
    labels = np.stack([read(path) for path in paths])
    masks = np.stack([own[read(data / "camvid/predictions" / path.name)] for path in paths])
    options = {"background": None, "ignore_index": 11, "num_classes": 11, "kind": "masks"}
    true = metrics.segments(masks, labels, unit="component", **options)
    shares = context.image_shares(labels, num_classes=11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        evidence = context.context_evidence(true, shares, own=np.arange(len(labels)), background=None)
    whole = metrics.segment_flips(true).loc["all"]
    yield "segments", whole["segments"], np.nan, np.nan
    yield "SegFlip", whole["seg_flip"], np.nan, np.nan
    beta = context.context_beta(true, evidence, background=None, samples=SAMPLES)
    yield "beta", beta.beta, beta.low, beta.high
    yield "beta, shuffled", beta.shuffled, np.nan, np.nan
    yield "beta, within", beta.within, np.nan, np.nan


def take(table, images):
    """Returns the rows of the photos that are chosen, bool (n,)."""
    return table[images[table["image"].to_numpy(int)]].reset_index(drop=True)


def about_model(answer, labels, shares, places, scenes, shown):
    """Returns rows (split, quantity, value, low, high) of a model on VOC-val and training photos; its flip matrix."""
    is_val = answer["is_val"]
    asked = np.arange(len(labels)) < answer["asked"]
    parts = metrics.segments(answer["masks"], labels, unit="component", **OPTIONS)
    whole = take(metrics.segments(answer["masks"], labels, **OPTIONS), asked)
    rows = []
    for split, photos in (("val", is_val), ("train", ~is_val)):
        own = take(parts, photos)
        evidence = context.context_evidence(own, shares, own=places)
        # No photo here shows some classes that a flip can take: of their scenes nothing is known.
        known = (shown >= context.SHOWN).any(0)[own["predicted"].fillna(0).to_numpy(int)]
        kept = own[(own["outcome"] != "flip") | known].reset_index(drop=True)
        told = scene_evidence(kept, scenes, shown, scenes, own=np.arange(len(labels)))
        found = [*about_flips(own, evidence, kept, told)]
        if split == "val":
            matrix = metrics.segment_confusion(own, num_classes=21)
        some = take(whole, photos)
        shift = answer["shift"][photos[whole["image"].to_numpy(int)]]
        use = context.context_use(some, context.context_evidence(some, shares, own=places), shift)
        found += [("context use", use.use, use.low, use.high)]
        flip, pixels, log_odds, count = answer[f"scene_flip_{split}"]
        found += [("SceneFlip", *flip), ("SceneFlip, pixels", *pixels), ("SceneFlip, log-odds", *log_odds)]
        found.append(("SceneFlip, segments", count[0], np.nan, np.nan))
        found += about_regions(regions_of(answer, photos & asked))
        rows += [(split, *each) for each in found]
    guessed = take(metrics.segments(answer["masks"], answer["masks"], **OPTIONS), asked & is_val)
    told = context.context_evidence(guessed, shares, own=places)
    use = context.context_use(guessed, told, answer["predicted_shift"])
    rows.append(("val", "context use, no labels", use.use, use.low, use.high))
    rows += [("composites", *each) for each in (about_composites(answer) if "composites" in answer else ())]
    return rows, matrix


def read_answer(path, splits):
    """Returns what ask.py stored of a model, and which photos, in its order, are of VOC-val."""
    with np.load(path) as stored:
        answer = {name: stored[name] for name in stored.files}
    return answer | {"is_val": splits[answer["order"]] == "val"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("answers", type=pathlib.Path)
    options = parser.parse_args()
    names, images, labels, splits = published.load_photos(options.data)
    shares, places = published.load_shares(options.data, names)
    scenes, shown = photo_scenes(images, labels)
    rows, matrices = [], []
    for model in published.MODELS:
        answer = read_answer(options.answers / f"{model.replace(' ', '_')}.npz", splits)
        own = answer["order"]
        found, matrix = about_model(answer, labels[own], shares, places[own], scenes[own], shown[own])
        rows += [(model, *each) for each in found]
        matrices.append(pd.DataFrame(matrix, published.CLASSES, published.CLASSES).assign(model=model))
    rows += [("ESPNetv2 2.0, Cityscapes", "CamVid", *each) for each in about_camvid(options.data)]
    table = pd.DataFrame(rows, columns=["model", "split", "quantity", "value", "low", "high"])
    table.to_csv(HERE / "results.csv", index=False, float_format="%.4f")
    pd.concat(matrices).rename_axis("class").to_csv(HERE / "flip_matrix.csv")
    figure.draw(table, options.answers, images, labels, shares, places, HERE)


if __name__ == "__main__":
    main()
