"""Scores of logits, sums of regions and selective prediction against NumPy twins and hand-computed cases."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, special

from flipjax import metrics
from flipjax.config.groups import NamedGroups
from flipjax.metrics import regions
from flipjax.metrics.images import read_images
from flipjax.metrics.statistics import selective
from flipjax.metrics.summary.evaluate import summary_of
from metrics.logits import draw, softmax


def exact_scores(logits, background):
    """Means of the five scores over an image's predicted foreground, in float64."""
    z = logits[logits.argmax(-1) != background].astype(np.float64)
    second, first = np.sort(softmax(z)).T[-2:]
    centred = z - z.mean(-1, keepdims=True)
    norm = (np.abs(centred) ** 5).sum(-1) ** (1 / 5)
    entropy = special.entr(softmax(np.delete(z, background, axis=-1))).sum(-1)
    scores = entropy, 1 - first, 1 - (first - second), -np.log(np.exp(z).sum(-1)), -centred.max(-1) / norm
    return np.mean(scores, axis=1) if len(z) else np.full(5, np.nan)


@pytest.mark.parametrize(("C", "background"), [(3, 0), (4, 2)])
def test_scores_equal_their_twin(C, background):
    logits = np.random.default_rng(C).normal(0, 2, (4, 6, 8, C)).astype(np.float32)
    logits[-1, ..., background] = 50  # No region.
    wanted = np.array([exact_scores(image, background) for image in logits]).T
    scores = metrics.logit_scores(logits, background=background)
    np.testing.assert_allclose(list(scores.values()), wanted, rtol=2e-5)
    np.testing.assert_allclose(scores["flip_risk"], metrics.flip_risk(logits, background=background), rtol=1e-5)
    traced = jax.jit(lambda logits: metrics.logit_scores(logits, background=background))(logits)
    for name, values in scores.items():
        np.testing.assert_allclose(traced[name], values, rtol=2e-5)
    of_probabilities = metrics.logit_scores(softmax(logits), background=background, kind="probabilities")
    for name, values in of_probabilities.items():
        np.testing.assert_allclose(values, np.full(4, np.nan) if name == "energy" else scores[name], rtol=2e-4)


def test_limits_of_scores():
    sure = jnp.full((1, 2, 3), -jnp.inf).at[..., 1].set(0.0)
    assert [float(value) for value in metrics.logit_scores(sure).values()][:4] == [0, 0, 0, 0]
    broken = jnp.zeros((1, 2, 3)).at[0, 0, 0].set(jnp.nan)
    assert all(np.isnan(value) for value in metrics.logit_scores(broken).values())
    with pytest.raises(ValueError, match=r"^p:"):
        metrics.logit_scores(sure, p=0)


def test_rims_by_hand():
    near = jax.jit(regions._near, static_argnums=2)
    region = draw("0000000 0111111 0111111 0111111 0111111").astype(bool)
    # Diagonal neighbours count, the border of the image does not.
    np.testing.assert_array_equal(region & near(~region, 2, 2), draw("0000000 0111111 0111111 0110000 0110000"))
    cube = np.pad(np.ones((3, 3, 3), bool), 1)
    assert (cube & near(~cube, 1, 3)).sum() == 26
    square = np.pad(np.ones((30, 30), int), 9)
    sums = metrics.region_sums(np.eye(3, dtype=np.float32)[square], square)
    assert sums.true.tolist() == sums.predicted.tolist() == [30**2 - 26**2, 26**2]  # Two pixels of 48.


def twin(logits, labels, *, background, ignore_index):
    """One image of fewer than 36 rows, in float64; rims by SciPy's dilation."""
    known, predictions = labels != ignore_index, logits.argmax(-1)
    p = softmax(np.delete(logits.astype(np.float64), background, axis=-1))

    def halves(classes):
        """The pixels of a region beside its background, and the others."""
        near = ndimage.binary_dilation(known & (classes == background), np.ones((3, 3)))
        return [known & (classes != background) & side for side in (near, ~near)]

    true, predicted = halves(labels), halves(predictions)
    shared = known & (labels != background) & (predictions != background)
    wrong, entropy = shared & (predictions != labels), special.entr(p).sum(-1)
    confidence, right = p.max(-1)[shared], (predictions == labels)[shared]
    sums = {"true": [half.sum() for half in true], "predicted": [half.sum() for half in predicted]}
    sums |= {"flips": [wrong[half].sum() for half in true], "risk": [entropy[half].sum() for half in predicted]}
    gaps = np.bincount(np.ceil(confidence * regions.BINS).astype(int) - 1, confidence - right, regions.BINS)
    return sums | {"shared": shared.sum(), "gaps": gaps}, confidence, right


@pytest.mark.parametrize(("C", "background"), [(3, 0), (4, 2)])
def test_sums_equal_their_twin(C, background):
    rng = np.random.default_rng(C)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1, (3, 12, 10, C)), 1), 2).astype(np.float32)
    logits = smooth - smooth.mean(-1, keepdims=True)
    labels = np.roll(logits, 1, axis=1).argmax(-1)
    labels[0, 3:5, 2:6] = 255
    labels[2] = background
    options = {"background": background, "ignore_index": 255}
    sums = jax.tree.map(np.asarray, metrics.region_sums(logits, labels, **options))
    twins, confidences, rights = zip(*(twin(x, y, **options) for x, y in zip(logits, labels, strict=True)), strict=True)
    for name, leaf in sums._asdict().items():
        np.testing.assert_allclose(leaf, [own[name] for own in twins], rtol=2e-5, atol=1e-5, err_msg=name)
    confidence, right = np.concatenate(confidences), np.concatenate(rights)
    gaps = np.bincount(np.ceil(confidence * regions.BINS).astype(int).clip(1), confidence - right)
    whole = jax.tree.map(np.asarray, metrics.decompose(logits, labels, background=background, ignore_index=255))
    summary = summary_of(read_images(whole, regions=jax.tree.map(np.asarray, sums)))
    assert summary["fg_ece"] == pytest.approx(np.abs(gaps).sum() / len(right), abs=1e-5)
    # Rim and interior are all of the region.
    np.testing.assert_array_equal(sums.true.sum(-1), np.delete(whole.confusion, background, 1).sum((1, 2)))
    np.testing.assert_allclose(sums.risk.sum(-1), whole.risk_sum, rtol=1e-5)
    traced = jax.jit(lambda logits, labels: metrics.region_sums(logits, labels, **options))(logits, labels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), traced, sums)
    of_probabilities = metrics.region_sums(softmax(logits), labels, **options, kind="probabilities")
    np.testing.assert_allclose(of_probabilities.gaps, sums.gaps, atol=1e-4)
    np.testing.assert_allclose(of_probabilities.risk, sums.risk, rtol=1e-4)


def test_quantities_of_groups():
    logits = np.eye(3, dtype=np.float32)[np.array([[[0, 1, 1, 1]], [[0, 2, 2, 2]], [[0, 0, 0, 0]]])] * 9
    labels = np.array([[[0, 1, 1, 1]]] * 3)
    sums, counts = metrics.region_sums(logits, labels), metrics.decompose(logits, labels)
    values = summary_of(read_images(counts, np.array([0, 1, 3]), regions=sums))
    assert (values["rim_flip"], values["group/rare/interior_flip"], values["group/0/rim_flip"]) == (1 / 3, 1, 0)
    assert values["group/1/fg_ece"] == pytest.approx(1, abs=1e-3)
    assert np.isnan([values["group/2/rim_flip"], values["group/3/fg_ece"]]).all()
    named = summary_of(read_images(counts, np.zeros(3, int), regions=sums, all_groups=NamedGroups(("site",))))
    assert "group/common/rim_flip" not in named and "group/site/rim_flip" in named


ROWS = st.tuples(st.integers(0, 5), st.booleans())
COLUMNS = st.lists(ROWS, min_size=2, max_size=12).map(lambda rows: np.array(rows, float).T)


@given(COLUMNS)
def test_auroc_is_the_share_of_ordered_pairs(columns):
    scores, events = columns
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[events == 1] for b in scores[events == 0]]
    np.testing.assert_allclose(selective.auroc(scores, events), np.mean(pairs) if pairs else np.nan)


@given(COLUMNS)
def test_areas_are_the_mean_and_the_trapezoids_of_their_curves(columns):
    scores, losses = columns
    n, shared = len(scores), [losses[scores == score].mean() for score in np.sort(scores)]
    rates, coverage = np.cumsum(shared) / np.arange(1, n + 1), np.arange(1, n + 1) / n
    areas = selective.areas(scores[None], losses)
    np.testing.assert_allclose(areas.aurc, rates.mean())
    np.testing.assert_allclose(areas.augrc, np.trapezoid(rates * coverage, coverage) / (1 - 1 / n), atol=1e-12)
    best = np.cumsum(np.sort(losses)) / np.arange(1, n + 1)
    np.testing.assert_allclose(areas.excess_aurc, (rates - best).mean(), atol=1e-12)


@given(COLUMNS, st.floats(0, 1))
def test_a_threshold_keeps_its_risk_and_no_larger_one_does(columns, risk):
    scores, losses = columns
    threshold = selective.threshold_at_risk(scores, losses, risk=risk)
    if threshold > -math.inf:
        assert selective.accepted(scores[None], losses, thresholds=np.array([threshold]))[1] <= risk + 1e-12
    larger = np.unique(scores[scores > threshold])
    assert (selective.accepted(np.tile(scores, (len(larger), 1)), losses, thresholds=larger)[1] > risk - 1e-12).all()


def test_images_without_score_have_no_rank():
    assert selective.auroc([0.1, np.nan, 0.9], [False, True, True]) == 1.0
    assert selective.risk_coverage([np.nan, 1.0], [1, 0]) == 0.0
    assert np.isnan(selective.areas(np.ones((1, 0)), np.ones(0)).aurc).all()
    assert np.isnan(selective.areas(np.ones((1, 1)), np.ones(1)).augrc).all()
