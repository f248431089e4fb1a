"""Mirrored and shifted labels: names, slow twins and laws of `flip_kinds` and `relabelling`, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics import Anatomy, Decomposition, FlipMetric
from metrics.logits import EXAMPLES

TOTAL = ["background", "kidney_left", "kidney_right", "vertebrae_T12", "vertebrae_L1", "vertebrae_L2", "aorta"]

# Of 8 classes: a pair and a chain; two pairs whose members are chains, too; a chain with a gap; pairs inside a chain.
ANATOMIES = [
    Anatomy(mirror=((1, 2),), chains=((3, 4, 5),)),
    Anatomy(mirror=((1, 4), (2, 5), (3, 6)), chains=((1, 2, 3), (4, 5, 6))),
    Anatomy(chains=((7, None, 2, 5),)),
    Anatomy(mirror=((2, 3), (1, 4)), chains=((1, 2, 3, 4),)),
    Anatomy(),
]
C = 8


@st.composite
def counts(draw):
    """An anatomy, labels and predictions of three images of 12 pixels, and a background."""
    anatomy = draw(st.sampled_from(ANATOMIES))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    labels, predictions = generator.integers(0, C, (2, 3, 4, 3))
    return anatomy, labels, predictions, draw(st.sampled_from([0, None]))


def decomposed(labels, predictions, background):
    confusion = np.zeros((len(labels), C, C), np.int64)
    for image in range(len(labels)):
        np.add.at(confusion[image], (labels[image].ravel(), predictions[image].ravel()), 1)
    return Decomposition(confusion, np.zeros(len(labels)), background)


def is_flip(label, prediction, background):
    return label != background and prediction != background and label != prediction


def slow_kind(anatomy, label, prediction):
    """'mirror', a number of places, or 'other'."""
    if (label, prediction) in anatomy.mirror or (prediction, label) in anatomy.mirror:
        return "mirror"
    for chain in anatomy.chains:
        if label in chain and prediction in chain:
            return chain.index(prediction) - chain.index(label)
    return "other"


def slow_renamings(anatomy):
    """Every renaming as a function of the class predicted, in the order of `Anatomy.renamings`."""
    partner = {a: b for pair in anatomy.mirror for a, b in (pair, pair[::-1])}
    functions = [lambda c: c]
    if anatomy.mirror:
        functions.append(lambda c: partner.get(c, c))

    def shifted(chain, step):
        def rename(c):
            place = chain.index(c) + step if c in chain else -1
            return chain[place] if 0 <= place < len(chain) and chain[place] is not None else c

        return rename

    for size in range(1, C):
        for step in (size, -size):
            for chain in anatomy.chains:
                rename = shifted(chain, step)
                if any(rename(c) != c for c in range(C)):
                    functions.append(rename)
    return functions


@EXAMPLES
@given(counts())
def test_kinds_equal_their_twin(case):
    anatomy, labels, predictions, background = case
    kinds = metrics.flip_kinds(decomposed(labels, predictions, background), anatomy)
    for image in range(len(labels)):
        pixels = list(zip(labels[image].ravel().tolist(), predictions[image].ravel().tolist(), strict=True))
        of_flips = [slow_kind(anatomy, *pixel) for pixel in pixels if is_flip(*pixel, background)]
        foreground = sum(label != background for label, _ in pixels)
        assert kinds.mirrored[image] == of_flips.count("mirror")
        assert kinds.shifted[image].tolist() == [of_flips.count(step) for step in anatomy.steps]
        assert kinds.other[image] == pytest.approx(of_flips.count("other") / foreground)


@EXAMPLES
@given(counts())
def test_kinds_sum_to_flip(case):
    anatomy, *arrays = case
    images = decomposed(*arrays)
    kinds = metrics.flip_kinds(images, anatomy)
    np.testing.assert_allclose(kinds.mirror + kinds.shift + kinds.other, images.flip)


@EXAMPLES
@given(counts())
def test_swapping_the_names_of_a_pair_mirrors_all_its_correct_pixels(case):
    _, labels, predictions, background = case
    anatomy = Anatomy(mirror=((1, 2),))
    swapped = np.array([0, 2, 1, *range(3, C)])[predictions]
    kinds = metrics.flip_kinds(decomposed(labels, swapped, background), anatomy)
    correct = ((labels == predictions) & np.isin(labels, (1, 2))).sum((1, 2))
    np.testing.assert_array_equal(kinds.mirrored, correct)


@EXAMPLES
@given(counts())
def test_relabelling_equals_its_twin(case):
    anatomy, labels, predictions, background = case
    best = metrics.relabelling(decomposed(labels, predictions, background), anatomy)
    renamings = slow_renamings(anatomy)
    assert len(renamings) == len(anatomy.renamings)
    for image, (truth, prediction) in enumerate(zip(labels, predictions, strict=True)):
        renamed = [np.vectorize(rename, otypes=[int])(prediction) for rename in renamings]
        inside = truth != background
        correct = [((each == truth) & inside).sum() for each in renamed]
        chosen = int(np.argmax(correct))
        assert best.renaming[image] == chosen
        assert best.mended[image] == correct[chosen] - correct[0]
        flips = inside & (renamed[chosen] != background) & (renamed[chosen] != truth)
        assert best.flip[image] == pytest.approx(flips.sum() / inside.sum())
        dice = []
        for c in range(C):
            sizes = (truth == c).sum() + (renamed[chosen] == c).sum()
            if c != background and sizes:
                dice.append(2 * ((truth == c) & (renamed[chosen] == c)).sum() / sizes)
        assert best.mean_dice[image] == pytest.approx(np.mean(dice))


@EXAMPLES
@given(st.sampled_from(ANATOMIES[:2]), st.integers(0, 2**16))
def test_relabelling_undoes_a_mirrored_image(anatomy, seed):
    labels = np.random.default_rng(seed).integers(0, 3, (1, 4, 3))
    labels[0, 0] = anatomy.mirror[0][0]
    mirrored = np.vectorize(slow_renamings(anatomy)[1], otypes=[int])(labels)
    best = metrics.relabelling(decomposed(labels, mirrored, 0), anatomy)
    assert anatomy.renamings[best.renaming[0]].kind == "mirror"
    assert best.flip[0] == 0 and best.mean_dice[0] == 1 and best.mended_share[0] == 1


@pytest.mark.parametrize("step", [1, -1, 2])
def test_relabelling_undoes_a_shift(step):
    anatomy = Anatomy(chains=((1, 2, 3, 4, 5),))
    labels = np.array([[[0, 3, 3, 3]]])
    decomposition = decomposed(labels, np.where(labels, labels + step, 0), 0)
    best = metrics.relabelling(decomposition, anatomy)
    renaming = anatomy.renamings[best.renaming[0]]
    assert (renaming.kind, renaming.chain, renaming.places) == ("shift", 0, -step)
    assert best.mended[0] == 3 and best.mean_dice[0] == 1
    kinds = metrics.flip_kinds(decomposition, anatomy)
    assert kinds.shifted[0, anatomy.steps.index(step)] == 3


@pytest.mark.parametrize("function", [metrics.flip_kinds, metrics.relabelling])
@pytest.mark.parametrize("anatomy", ANATOMIES, ids=["pair and chain", "sides", "gap", "arch", "none"])
def test_under_jit_and_vmap_numbers_are_those_of_numpy(anatomy, function):
    labels, predictions = np.random.default_rng(3).integers(0, C, (2, 3, 4, 3))
    images = decomposed(labels, predictions, 0)
    arrays = Decomposition(jnp.asarray(images.confusion, jnp.int32), jnp.asarray(images.risk_sum), 0)
    expected = function(images, anatomy)
    eager = function(arrays, anatomy)
    compiled = jax.jit(function, static_argnums=1)(arrays, anatomy)
    mapped = jax.vmap(lambda image: function(image, anatomy))(arrays)
    for found in (eager, compiled, mapped):
        assert type(found) is type(expected)
        for part, whole in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, whole, rtol=1e-5)
    kinds = jax.jit(lambda image: metrics.flip_kinds(image, anatomy).mirror)(arrays)
    np.testing.assert_allclose(kinds, metrics.flip_kinds(images, anatomy).mirror, rtol=1e-5)


def test_images_without_foreground_have_no_shares():
    empty = Decomposition(np.zeros((1, C, C), int), np.zeros(1))
    kinds = metrics.flip_kinds(empty, ANATOMIES[0])
    best = metrics.relabelling(empty, ANATOMIES[0])
    assert np.isnan([kinds.mirror, kinds.shift, kinds.other, best.flip, best.mean_dice, best.mended_share]).all()
    assert best.renaming == 0 and best.mended == 0


NAMES = {
    "sides as words": ("kidney_left kidney_right", ((0, 1),), ()),
    "sides first, capitals": ("Left-Putamen Right-Putamen Brain-Stem", ((0, 1),), ()),
    "camel case": ("KidneyRight kidneyLeft", ((0, 1),), ()),
    "one letter": ("lung_l l_eye lung_r r_eye", ((0, 2), (1, 3)), ()),
    "short words": ("ctx-lh-insula ctx-rh-insula eye(LT) eye(RT)", ((0, 1), (2, 3)), ()),
    "one side alone": ("heart atrium_left lung_upper_right", (), ()),
    "lumbar is no side": ("L1 L2 L3", (), ((0, 1, 2),)),
    "spelled alike": ("kidney_left kidney-left kidney_right", (), ()),
    "the spine": ("vertebrae_L2 vertebrae_L1 vertebrae_T12 vertebrae_T11 sacrum", (), ((3, 2, 1, 0),)),
    "rare vertebrae": ("T12 T13 L1", (), ((0, 1, 2),)),
    "other spellings": ("Th11 Th12 L1", (), ((0, 1, 2),)),
    "ribs of either side": (
        "rib_left_1 rib_left_2 rib_right_1 rib_right_2",
        ((0, 2), (1, 3)),
        ((0, 1), (2, 3)),
    ),
    "the number before the side": ("rib2_l rib1_l", (), ((1, 0),)),
    "the number first": ("2_rib 1_rib", (), ((1, 0),)),
    "a number alone": ("1 2 3", (), ((0, 1, 2),)),
    "teeth": ("tooth_11 tooth_12 tooth_21", (), ()),
    "images of magnetic resonance": ("T1 T2 FLAIR", (), ()),
    "three thoracic vertebrae": ("T1 T2 T3", (), ((0, 1, 2),)),
    "numbers of nothing": ("class1 class2 label_3 label_4", (), ()),
    "stages": ("tumor_stage_1 tumor_stage_2 tumor_stage_3", (), ()),
    "stages, the number first": ("1_stage 2_stage 3_stage", (), ()),
    "numbers far apart": ("node_1 node_40", (), ()),
    "the same number": ("rib_1 rib_01 rib_2", (), ()),
    "one name": ("liver", (), ()),
}


@pytest.mark.parametrize(("names", "mirror", "chains"), NAMES.values(), ids=NAMES)
@pytest.mark.filterwarnings("ignore:class_names")
def test_an_anatomy_is_found_in_names(names, mirror, chains):
    anatomy = Anatomy.from_names(names.split())
    assert (anatomy.mirror, anatomy.chains) == (mirror, chains)


def test_the_whole_spine_is_one_chain_without_gaps():
    names = [f"{letter}{n}" for letter, most in (("C", 7), ("T", 12), ("L", 5), ("S", 5)) for n in range(1, most + 1)]
    assert Anatomy.from_names(names).chains == (tuple(range(29)),)


@pytest.mark.parametrize(
    ("names", "chain", "message"),
    [
        ("L1 L2 L4", (0, 1, None, 2), "a place without a class, after 'L2' and before 'L4'"),
        ("T11 L1 L2", (0, None, 1, 2), "a place without a class, after 'T11' and before 'L1'"),
        ("rib_1 rib_4 rib_5", (0, None, None, 1, 2), "2 places without a class, after 'rib_1' and before 'rib_4'"),
    ],
)
def test_a_gap_is_said_and_its_places_count(names, chain, message):
    with pytest.warns(UserWarning, match=f"^class_names: expected a chain without gaps, found {message}"):
        anatomy = Anatomy.from_names(names.split())
    assert anatomy.chains == (chain,)


REFUSED = {
    "no pair": (lambda: Anatomy(mirror=((1, 2, 3),)), "mirror: expected pairs of two different classes"),
    "itself": (lambda: Anatomy(mirror=((1, 1),)), "mirror: expected pairs of two different classes"),
    "in two pairs": (lambda: Anatomy(mirror=((1, 2), (2, 3))), "mirror: expected each class once, found 2 twice"),
    "beyond C": (lambda: Anatomy(mirror=((1, 7),), num_classes=5), r"mirror: expected classes in 0..4, found 7"),
    "below 0": (lambda: Anatomy(chains=((-1, 2),)), r"chains: expected classes in 0.., found -1"),
    "names": (lambda: Anatomy(mirror=(("a", "b"),)), "mirror: expected class indices, found .* of_names"),
    "no chain": (lambda: Anatomy(chains=(3,)), "chains: expected chains of classes, found 3"),
    "short": (lambda: Anatomy(chains=((3,),)), "chains: expected two classes or more"),
    "open end": (lambda: Anatomy(chains=((3, 4, None),)), "chains: .* one at either end"),
    "in two chains": (lambda: Anatomy(chains=((1, 2), (2, 3))), "chains: expected each class once, found 2 twice"),
    "one text": (lambda: Anatomy.from_names("abc"), "class_names: expected a sequence of names, found 'abc'"),
    "no text": (lambda: Anatomy.from_names([1, 2]), "class_names: expected names, found 1"),
    "twice": (lambda: Anatomy.from_names(["a", "a"]), "class_names: expected different names, found 'a' twice"),
    "unknown": (
        lambda: Anatomy.of_names(TOTAL, mirror=[("kidney_lft", "kidney_right")]),
        "mirror: expected names of classes, found 'kidney_lft'; did you mean 'kidney_left'",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_anatomy_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", [metrics.flip_kinds, metrics.relabelling])
@pytest.mark.parametrize(
    ("anatomy", "message"),
    [
        (Anatomy(mirror=((1, 8),)), r"anatomy: expected classes in 0..7, found 8"),
        (Anatomy(chains=((0, 1),)), "anatomy: expected foreground classes, found 0, which is background"),
        (Anatomy.from_names(TOTAL), "anatomy: expected one of 8 classes, found one of 7; name all classes"),
    ],
    ids=["beyond C", "background", "other classes"],
)
def test_an_anatomy_of_other_classes_is_refused(function, anatomy, message):
    images = Decomposition(np.zeros((1, C, C), int), np.zeros(1))
    with pytest.raises(ValueError, match=f"^{message}"):
        function(images, anatomy)


LABELS = np.array([[[1, 1, 4, 4], [5, 6, 0, 0]]])
PREDICTED = np.array([[[2, 1, 5, 4], [1, 6, 0, 0]]])


def test_a_metric_finds_kinds_in_names():
    metric = FlipMetric(kind="masks", num_classes=7, class_names=TOTAL)
    metric.update(PREDICTED, LABELS)
    summary = metric.compute()
    assert [summary[f"flip_{kind}"] for kind in ("mirror", "shift", "other")] == [1 / 6] * 3
    # Names of the foreground alone name the same classes.
    shorter = FlipMetric(kind="masks", num_classes=7, class_names=TOTAL[1:])(PREDICTED, LABELS)
    np.testing.assert_equal(shorter, summary)


@pytest.mark.parametrize(
    "options",
    [{"class_names": TOTAL, "anatomy": None}, {}, {"class_names": list("abcdefg")}],
    ids=["turned off", "no names", "names of no anatomy"],
)
def test_a_metric_without_anatomy_has_no_kinds(options):
    summary = FlipMetric(kind="masks", num_classes=7, **options)(PREDICTED, LABELS)
    assert not [name for name in summary if name.startswith("flip_m") and name != "flip_matrix"]


def test_a_metric_takes_an_anatomy():
    summary = FlipMetric(kind="masks", num_classes=7, anatomy=Anatomy(mirror=((1, 5),)))(PREDICTED, LABELS)
    assert (summary["flip_mirror"], summary["flip_shift"], summary["flip_other"]) == (1 / 6, 0, 2 / 6)


@pytest.mark.parametrize("anatomy", [(1, 2), "left", 3])
def test_a_metric_refuses_what_is_no_anatomy(anatomy):
    with pytest.raises(ValueError, match=r"^anatomy: expected an Anatomy, 'names' or None"):
        FlipMetric(anatomy=anatomy)
