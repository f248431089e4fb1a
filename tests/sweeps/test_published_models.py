"""The study of published models: its context against made-up models of known use, theory and slow twins."""

import importlib.util
import pathlib

import numpy as np
import pandas as pd
import pytest
from metrics.logits import check_refused

from flipjax.metrics import segments

STUDY = pathlib.Path(__file__).parents[2] / "sweeps/studies/published_models"
if not STUDY.is_dir():
    pytest.skip("the source distribution has no studies", allow_module_level=True)
spec = importlib.util.spec_from_file_location("context", STUDY / "context.py")
context = importlib.util.module_from_spec(spec)
spec.loader.exec_module(context)

C = 6


def draw_contexts(generator, classes, together, *, own=0.0):
    """Shares of the context of each image, (n, C): class e stands beside c with together[c, e], c itself has `own`."""
    shares = np.where(generator.random((len(classes), C)) < together[classes], 0.1, 0.0)
    shares[np.arange(len(classes)), classes] = own
    shares[:, 0] = 0.3
    return shares


def made_up(weight, seed):
    """Segments of a model that takes a wrong class by exp(log a + weight * Delta), and the evidence."""
    generator = np.random.default_rng(seed)
    together = generator.uniform(0.05, 0.6, (C, C))
    train, truth = (generator.integers(1, C, n) for n in (3000, 1500))
    shares = draw_contexts(generator, train, together, own=0.2)
    contexts = draw_contexts(generator, truth, together)
    true = pd.DataFrame({"image": np.arange(len(truth)), "class": truth, "predicted": truth, "outcome": "correct"})
    true = true.assign(stratum=generator.integers(0, 2, len(truth)), bleeding=pd.Series(False, true.index, "boolean"))
    true[[f"context_{c}" for c in range(C)]] = contexts
    evidence = context.context_evidence(true, shares)
    rates = np.log(generator.uniform(0.2, 1, (C, C)))[truth]
    utility = rates + weight * evidence + generator.gumbel(size=evidence.shape)
    utility[:, 0] = utility[np.arange(len(truth)), truth] = -np.inf
    flips = generator.random(len(truth)) < 0.4
    true.loc[flips, "predicted"] = utility.argmax(1)[flips]
    true.loc[flips, "outcome"] = "flip"
    return true, evidence, shares


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_beta_is_the_weight_of_the_context_of_a_made_up_model(weight):
    true, evidence, _ = made_up(weight, seed=round(10 * weight))
    beta = context.context_beta(true, evidence, samples=300)
    assert beta.low <= weight <= beta.high and beta.high - beta.low < 0.9
    assert (beta.difference_low > 0) == (weight > 0) and beta.difference_low < beta.difference < beta.difference_high
    assert abs(beta.shuffled) < 0.1 and beta.low - 0.15 <= beta.within <= beta.high + 0.15
    assert beta == context.context_beta(true, evidence, samples=300)


def test_evidence_equals_its_twin_with_the_own_image_left_out():
    generator = np.random.default_rng(3)
    true, _, shares = made_up(0.5, seed=3)
    true, shares = true[:40], shares[:300]
    own = np.where(generator.random(40) < 0.5, generator.integers(0, 300, 40), -1)
    with pytest.warns(UserWarning, match=r"^shares: found 300 training images"):
        evidence = context.context_evidence(true, shares, own=own)
    for s, row in enumerate(true.to_dict("records")):
        others = np.delete(shares, own[s], axis=0) if own[s] >= 0 else shares
        for d in range(1, C):
            total = 0.0
            for e in set(range(1, C)) - {d, row["class"]}:
                there = row[f"context_{e}"] >= 0.01
                logs = []
                for c in (d, row["class"]):
                    showing = others[others[:, c] >= 0.001]
                    share = ((showing[:, e] >= 0.01).sum() + 1) / (len(showing) + 2)
                    logs.append(np.log(share if there else 1 - share))
                total += logs[0] - logs[1]
            np.testing.assert_allclose(evidence[s, d], 0 if d == row["class"] else total, atol=1e-9)


TRUE, EVIDENCE, SHARES = made_up(0.5, seed=5)


@pytest.mark.parametrize(
    ("true", "evidence", "background", "said"),
    [
        (TRUE.assign(outcome="correct"), EVIDENCE, 0, "flips: expected at least 50, found 0"),
        (TRUE, EVIDENCE, (0, 1, 2, 3), "evidence: expected three foreground classes"),
        (TRUE, np.zeros_like(EVIDENCE), 0, "evidence: expected contexts that differ"),
    ],
    ids=["no flip", "few classes", "equal contexts"],
)
def test_what_beta_cannot_tell_is_refused(true, evidence, background, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        context.context_beta(true, evidence, background=background)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (SHARES * (np.arange(C) != 3), "shares: expected .* none for 3"),
        (SHARES[:, :5], "shares: expected .* as many classes as segments"),
    ],
    ids=["a class without images", "too few classes"],
)
def test_images_without_evidence_are_refused(shares, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        context.context_evidence(TRUE, shares, background=0)


K = 5


@pytest.fixture(scope="module")
def photos():
    """Photos whose pixels are their classes, one hot, with their segments, evidence, and what each class goes with."""
    generator = np.random.default_rng(0)
    together = generator.uniform(0.1, 0.7, (K, K))
    labels = np.zeros((240, 8, 8), np.int64)
    classes = generator.integers(1, K, len(labels))
    labels[:, 2:5, 2:5] = classes[:, None, None]
    beside = generator.random((len(labels), K)) < together[classes]
    for e in range(1, K):
        labels[beside[:, e] & (classes != e), 6, 2 * e - 2 : 2 * e] = e
    shares = context.image_shares(labels, num_classes=K)
    true = segments(labels, labels, kind="masks", num_classes=K, min_pixels=3)
    shown = shares >= 0.001
    stands = ((shown.T.astype(float) @ shown) + 1) / (shown.sum(0)[:, None] + 2)
    with pytest.warns(UserWarning, match="240 training images"):
        evidence = context.context_evidence(true, shares)
    return np.eye(K, dtype=np.float32)[labels], labels, true, evidence, stands


def model(weight, stands):
    """Logits: the pixel's own class, and a share of what the classes in the image say."""

    def predict(images):
        seen = (np.asarray(images)[..., 1:].mean((1, 2)) > 0.01)[:, None]
        terms = np.where(seen, np.log(stands[:, 1:]), np.log(1 - stands[:, 1:] + 1e-6))
        told = (terms * (1 - np.eye(K)[:, 1:])).sum(-1)
        return (5 * np.asarray(images) + weight * told[:, None, None]).astype(np.float32)

    return predict


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_context_use_is_the_share_of_the_evidence_that_a_model_uses(photos, weight):
    images, labels, true, evidence, stands = photos
    scene = np.zeros((2, 8, 8, K), np.float32)
    scene[..., 0] = 1
    shift = context.segment_shift(model(weight, stands), images, labels, true, scene, batch=64)
    use = context.context_use(true, evidence, shift, samples=200)
    np.testing.assert_allclose(use.use, weight, atol=1e-3)
    assert use.low - 1e-3 <= weight <= use.high + 1e-3 and use.pairs > 300


def test_what_does_not_fit_is_named(photos):
    images, labels, true, _, stands = photos
    whole = {"predict": model(0, stands), "images": images, "labels": labels, "true": true, "scenes": images[:1]}
    predicts = [lambda x: x[:, :4], lambda x: np.zeros((*x.shape[:3], 6), np.float32)]
    spoiled = {"scenes": [images[:1].astype(np.uint8)], "labels": [labels[:2]], "predict": predicts}
    check_refused(context.segment_shift, whole, spoiled)
