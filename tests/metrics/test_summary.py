"""summarize and bootstrap: hand-computed cases, slow twins, groups, AUROC intervals, and the paper's implementation."""

import functools

import jax
import numpy as np
import pytest
from conftest import GROUPS as MANY
from golden import CASES, check_summary, read_case
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics import Decomposition, bootstrap
from flipjax.metrics.statistics.draws import draw_images
from flipjax.metrics.statistics.selective import auroc_ends
from flipjax.metrics.summary.resampling import generator_of
from metrics.logits import EXAMPLES, check_refused


def images(flip, risk, foreground=20):
    """A decomposition whose images have the given flip shares (of 20 foreground pixels) and flip-risks."""
    flip, risk = np.asarray(flip, float), np.asarray(risk, float)
    confusion = np.zeros((len(flip), 3, 3), np.int32)
    confusion[:, 1, 2] = np.round(flip * foreground)
    confusion[:, 1, 1] = foreground - confusion[:, 1, 2]
    return Decomposition(confusion, risk * foreground)


def slow_ranking(flip, risk):
    """The ranking's statistics by loops."""
    order = sorted(range(len(risk)), key=lambda i: risk[i])
    n = len(order)
    parts = [order[d * n // 10 : (d + 1) * n // 10] for d in range(10)]
    most = sum(sorted(flip)[9 * n // 10 :]) / sum(flip) if sum(flip) else np.nan
    tied = [np.mean([flip[j] for j in order if risk[j] == risk[i]]) for i in range(n)]
    top = sum(tied[i] for i in parts[-1]) / sum(flip) if sum(flip) else np.nan
    pairs = [(risk[i], risk[j]) for i in range(n) for j in range(n) if flip[i] > 0.5 >= flip[j]]
    return {
        "risk_decile": [np.mean([risk[i] for i in part]) if part else np.nan for part in parts],
        "flip_by_risk_decile": [np.mean([tied[i] for i in part]) if part else np.nan for part in parts],
        "top_decile_flip_share": top,
        "top_decile_ceiling": most,
        "top_decile_of_ceiling": (top - 0.1) / (most - 0.1) if most > 0.1 + 1e-9 else np.nan,
        "risk_auroc": np.mean([(a > b) + (a == b) / 2 for a, b in pairs]) if pairs else np.nan,
        "risk_aurc": np.mean([np.mean([tied[i] for i in order[:k]]) for k in range(1, n + 1)]) if n else np.nan,
    }


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), min_size=0, max_size=35))
def test_ranking_equals_its_slow_twin(pairs):
    flip, risk = [f / 20 for f, _ in pairs], [r / 8 for _, r in pairs]
    summary = metrics.summarize(images(flip, risk))
    assert summary["n_images"] == len(pairs) and summary["n_images_without_risk"] == 0
    for key, expected in slow_ranking(flip, risk).items():
        np.testing.assert_allclose(summary[key], expected, rtol=1e-12, atol=1e-15)


def test_images_without_true_or_predicted_foreground_are_not_ranked():
    result = images([0.0, 0.5, 1.0, 0.5, 1.0], [0.1, 0.2, 0.3, 0.4, np.nan])
    result.confusion[1] = [[20, 5, 0], [0, 0, 0], [0, 0, 0]]  # no true foreground
    result.confusion[3] = [[20, 0, 0], [9, 0, 0], [0, 0, 0]]  # nothing predicted
    summary = metrics.summarize(result)
    assert summary["n_images"] == 5 and summary["n_images_without_risk"] == 3
    assert summary["flip_image_mean"] == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert summary["risk_auroc"] == 1.0 and summary["top_decile_flip_share"] == 1.0
    np.testing.assert_allclose(summary["risk_decile"], [np.nan] * 4 + [0.1] + [np.nan] * 4 + [0.3])


def test_without_images_counts_are_0_and_shares_unknown():
    empty = metrics.summarize(images([], []), np.array([], int))
    assert empty["n_images"] == 0 and empty["group/rare/n_images"] == 0
    assert np.isnan([empty["fg_flip"], empty["iou/class1"], empty["gap/class1"], *empty["risk_decile"]]).all()


def test_errors_at_the_door_of_summaries():
    result = images([0.0, 1.0], [0.1, 0.2])
    whole = {"decomposition": result, "groups": [0, 3]}
    broken = [jax.tree.map(lambda leaf: leaf[None], result), Decomposition(result.confusion / 2, result.risk_sum)]
    names = [["cat"], ["a", "a", "b"], ["background", "foreground", "b"]]
    spoiled = {"decomposition": broken, "groups": [[0], [1, 4], [0.0, 1.0]], "class_names": names}
    check_refused(metrics.summarize, whole, spoiled)
    four = {"decomposition": Decomposition(np.ones((2, 4, 4), int), np.zeros(2)), "all_groups": MANY}
    check_refused(metrics.summarize, four, {"groups": [[12, 0]]})
    check_refused(metrics.summarize, whole | {"all_groups": MANY}, {"groups": [[0, 0]]})
    bootstrap = functools.partial(metrics.bootstrap, result, statistic="fg_flip")
    check_refused(bootstrap, {"key": jax.random.key(0)}, {"key": [0], "statistic": ["fg_flop", "gap/mean"]})
    with pytest.raises(ValueError, match="samples=0"):
        bootstrap(key=jax.random.key(0), samples=0)


def test_a_bootstrap_is_the_percentiles_of_summaries_of_its_resamples():
    rng = np.random.default_rng(10)
    logits, labels = rng.normal(0, 2, (40, 6, 6, 3)).astype(np.float32), rng.integers(0, 3, (40, 6, 6))
    result, groups = metrics.decompose(logits, labels), np.arange(40) % 4
    keys = ["fg_flip", "iou/foreground", "risk_aurc", "risk_decile", "group/rare/risk_aurc", "worst_group_iou"]
    together = metrics.bootstrap(result, keys, key=jax.random.key(3), samples=60, groups=groups)
    assert list(together) == keys
    counts = draw_images(generator_of(jax.random.key(3)), 40, samples=60, groups=groups)
    drawn = metrics.resampled(result, keys, counts=counts, groups=groups)
    for name in keys:
        np.testing.assert_allclose(together[name], np.percentile(drawn[name], [2.5, 97.5], axis=0), rtol=1e-12)
    alone = metrics.bootstrap(result, keys[0], key=jax.random.key(3), samples=60, groups=groups)
    assert alone == together[keys[0]]


def test_bootstrap_keeps_the_groups_and_leaves_nan_out():
    result, key = images([0.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4]), jax.random.key(0)
    fixed = metrics.bootstrap(result, "fg_flip", key=key, samples=50, groups=[0, 0, 1, 1])
    free = metrics.bootstrap(result, "fg_flip", key=key, samples=50)
    assert fixed == (0.5, 0.5) and free.low < 0.5 < free.high
    share = metrics.bootstrap(images([0.0, 1.0], [0.1, 0.2]), "top_decile_flip_share", key=key)
    assert share.low == 0.5 and share.high == 1.0
    assert np.isnan(metrics.bootstrap(images([0.0], [0.1]), "risk_auroc", key=key, samples=5)).all()


def test_pairs_are_drawn_whole():
    counts = draw_images(np.random.default_rng(0), 6, samples=20, pairs=np.arange(6) // 2)
    assert (counts[:, ::2] == counts[:, 1::2]).all() and (counts.sum(1) == 6).all() and counts.std() > 0


@EXAMPLES
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12), st.integers(1, 5))
def test_clusters_are_drawn_whole_and_as_many_as_there_are(numbers, samples):
    counts = draw_images(np.random.default_rng(0), len(numbers), samples=samples, clusters=np.array(numbers))
    own = np.where(np.array(numbers) < 0, -1 - np.arange(len(numbers)), numbers)
    first = np.unique(own, return_index=True)[1]
    assert (counts[:, first].sum(1) == len(first)).all()
    for number in own:
        assert (np.ptp(counts[:, own == number], axis=1) == 0).all()


def flat(summary):
    return np.concatenate([np.ravel(value) for value in summary.values()])


@EXAMPLES
@given(st.integers(0, 2**16), st.booleans())
def test_summaries_depend_on_no_order_and_resamples_on_no_shortcut(seed, clustered):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    confusion, groups = rng.integers(0, 4, (n, 3, 3)), rng.integers(0, 4, n)
    whole = Decomposition(confusion, rng.integers(0, 4, n) * confusion[:, :, 1:].sum((1, 2)))
    order, cut = rng.permutation(n), int(rng.integers(0, n + 1))
    parts = [jax.tree.map(lambda leaf, part=part: leaf[part], whole) for part in (order[:cut], order[cut:])]
    summary, again = metrics.summarize(whole, groups), metrics.summarize(metrics.concatenate(parts), groups[order])
    assert summary.keys() == again.keys()
    np.testing.assert_allclose(flat(again), flat(summary), rtol=1e-9, atol=1e-12)
    keys = [key for key in summary if key != "flip_matrix"]
    together = {"clusters": rng.integers(-1, 3, n)} if clustered else {"groups": groups, "pairs": None}
    counts = draw_images(rng, n, samples=3, **together)
    values = metrics.resampled(whole, keys, counts=counts, groups=groups)
    for k, own in enumerate(counts):
        row = np.repeat(np.arange(n), own.astype(int))
        one = metrics.summarize(Decomposition(whole.confusion[row], whole.risk_sum[row]), groups[row])
        drawn = {key: values[key][k] for key in keys}
        np.testing.assert_allclose(flat(drawn), flat({key: one[key] for key in keys}), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    logits, labels, groups = read_case(name)
    check_summary(metrics.summarize(metrics.decompose(logits, labels), groups), name)


def pull_of(confusion, groups):
    flips = pulled = 0
    for counts, group in zip(confusion, groups, strict=True):
        y, scene = divmod(int(group), 4)
        for d in range(3):
            if d != y and scene not in MANY.usual[y]:
                flips += counts[1 + y, 1 + d]
                pulled += counts[1 + y, 1 + d] * (scene in MANY.usual[d])
    return pulled / flips


def iou_of(counts, c):
    return counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c])


def test_summaries_equal_loops_over_images_classes_and_groups():
    """Five images of each of twelve groups, each of one class."""
    rng, groups, names = np.random.default_rng(2), np.repeat(np.arange(MANY.count), 5), ("background", "a", "b", "c")
    confusion = np.zeros((len(groups), 4, 4), np.int64)
    confusion[:, 0] = rng.integers(0, 30, (len(groups), 4))
    confusion[np.arange(len(groups)), 1 + MANY.class_of(groups)] = rng.integers(0, 30, (len(groups), 4))
    decomposition = Decomposition(confusion, rng.uniform(0, 5, len(groups)))
    summary = metrics.summarize(decomposition, groups, class_names=names, all_groups=MANY)
    whole, flips = confusion.sum(0), [counts[1:, 1:].sum() - np.trace(counts[1:, 1:]) for counts in confusion]
    shares = np.array([flip / counts[1:].sum() for flip, counts in zip(flips, confusion, strict=True)])
    true = whole[1:].sum()
    expected = {"n_images": len(groups), "fg_correct": np.trace(whole[1:, 1:]) / true, "fg_flip": sum(flips) / true}
    expected |= {"fg_miss": whole[1:, 0].sum() / true, "iou/foreground": whole[1:, 1:].sum() / whole.ravel()[1:].sum()}
    expected |= {f"iou/{name}": iou_of(whole, c) for c, name in enumerate(names)}
    expected |= {"flip_image_mean": shares.mean(), "flipped_images": (shares > 0.5).mean()}
    expected["scene_pull"] = pull_of(confusion, groups)
    own = {group: iou_of(confusion[groups == group].sum(0), 1 + group // 4) for group in range(MANY.count)}
    expected |= {f"group/{group}/iou/{names[1 + group // 4]}": iou for group, iou in own.items()}
    for y, name in enumerate("abc"):
        sides = [[own[4 * y + s] for s in range(4) if (s in MANY.usual[y]) == common] for common in (True, False)]
        expected[f"gap/{name}"] = np.mean(sides[0]) - np.mean(sides[1])
    expected |= {"gap/mean": np.mean([expected[f"gap/{name}"] for name in "abc"]), "worst_group_iou": min(own.values())}
    rare = [s not in MANY.usual[y] for y, s in zip(*divmod(groups, 4), strict=True)]
    counts = confusion[rare].sum(0)[1:]
    expected["group/rare/fg_flip"] = (counts[:, 1:].sum() - np.trace(counts[:, 1:])) / counts.sum()
    assert {key: summary[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert all(isinstance(value, (int, float, list)) for value in summary.values())


@pytest.mark.parametrize(("auroc", "events", "others"), [(0.5, 1, 1), (0.8, 3, 17), (0.0, 2, 9), (1.0, 1, 40)])
def test_ends_are_the_outermost_values_within_196_of_their_own_errors(auroc, events, others):
    values = np.linspace(0, 1, 100_001)
    # Hanley and McNeil's variance, with (m + n) / 2 - 1 in place of m - 1 and n - 1.
    one, other = values / (2 - values) - values**2, 2 * values**2 / (1 + values) - values**2
    variance = (values * (1 - values) + ((events + others) / 2 - 1) * (one + other)) / (events * others)
    within = values[(values - auroc) ** 2 <= 1.959964**2 * variance + 1e-12]
    np.testing.assert_allclose(auroc_ends(auroc, events, others), [within[0], within[-1]], atol=3e-5)


def test_bootstrap_of_an_auroc_has_these_ends_and_images_of_one_object_count_once():
    rng, groups = np.random.default_rng(4), np.arange(24) % 4
    model = images(rng.integers(0, 21, 24) / 20, rng.random(24))
    ends = functools.partial(bootstrap, statistic="risk_auroc", key=jax.random.key(0))
    events = int((np.asarray(model.flip) > 0.5).sum())
    assert ends(model) == auroc_ends(metrics.summarize(model)["risk_auroc"], events, 24 - events)
    twice = Decomposition(np.repeat(model.confusion, 2, 0), np.repeat(model.risk_sum, 2))
    np.testing.assert_allclose(ends(twice, pairs=np.repeat(np.arange(24), 2)), ends(model), rtol=1e-9)
    keys, inside = ["group/rare/risk_auroc", "fg_flip"], np.isin(groups, (1, 2))
    both = bootstrap(model, keys, key=jax.random.key(0), groups=groups, samples=20)
    rare = Decomposition(model.confusion[inside], model.risk_sum[inside])
    assert list(both) == keys and both[keys[0]] == ends(rare)
