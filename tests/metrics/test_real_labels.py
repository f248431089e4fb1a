"""Published predictions on real label maps of many classes, against a trial's figures on a larger set of images.

CamVid: every third of the 233 test images, ESPNetv2 with Cityscapes weights; the trial had all of them. Research data
outside of the repository: skipped where it is absent.
"""

import pathlib

import jax
import numpy as np
import pytest

from flipjax import metrics

CAMVID = pathlib.Path(__file__).parents[3] / "shared" / "many" / "camvid"
NAMES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
# The Cityscapes classes that each of CamVid's is made of.
TRAINED = ((10,), (2, 3), (5,), (0,), (1,), (8, 9), (6, 7), (4,), (13, 14, 15, 16), (11,), (12, 17, 18))
VOID = 11


@pytest.fixture(scope="module")
def camvid():
    image = pytest.importorskip("PIL.Image")
    if not CAMVID.is_dir():
        pytest.skip(f"no {CAMVID}")
    paths = sorted((CAMVID / "labels").glob("*.png"))
    own = np.zeros(256, np.uint8)
    for c, trained in enumerate(TRAINED):
        own[list(trained)] = c
    labels = np.stack([np.asarray(image.open(path)) for path in paths])
    predictions = np.stack([own[np.asarray(image.open(CAMVID / "predictions" / path.name))] for path in paths])
    return predictions, labels


OPTIONS = {"kind": "masks", "background": None, "ignore_index": VOID, "num_classes": len(NAMES)}


@pytest.fixture(scope="module")
def tables(camvid):
    return metrics.segment_tables(*camvid, unit="component", min_pixels=66, **OPTIONS)


def test_segments_that_flip_are_those_of_the_trial(tables):
    rates = metrics.segment_flips(tables.true, key=jax.random.key(0), class_names=NAMES)
    trial = {"sign": 0.72, "fence": 0.63, "pole": 0.61, "car": 0.26, "building": 0.17}
    for name, share in trial.items():
        assert rates.loc[name, "seg_flip"] == pytest.approx(share, abs=0.1), name
    assert rates.loc["all", "strict_flip"] < 0.06
    assert (rates["miss"] == 0).all()


def test_what_mending_is_worth_is_what_the_trial_found(tables, camvid):
    budget = metrics.error_budget(tables.pixels, num_classes=len(NAMES))
    trial = {"whole": (0.36, 0.179), "rim": (0.36, 0.126), "inside": (0.28, 0.071)}
    for kind, (share, gain) in trial.items():
        assert budget.loc[kind, "share"] == pytest.approx(share, abs=0.03), kind
        assert budget.loc[kind, "gain"] == pytest.approx(gain, abs=0.03), kind
    assert budget.loc[["miss", "spill", "background"], "pixels"].sum() == 0
    summary = metrics.summarize(metrics.decompose(*camvid, **OPTIONS), class_names=NAMES)
    assert summary["mean_iou"] == pytest.approx(0.525, abs=0.02)
    assert budget.loc["all", "mean_iou"] == 1 and summary["mean_iou"] + budget.loc["all", "gain"] == pytest.approx(1)
    assert (summary["flipped_images"], summary["fg_miss"]) == (0, 0)
    assert summary["fg_flip"] == pytest.approx(budget.loc["all", "pixels"] / tables.pixels["pixels"].sum())
