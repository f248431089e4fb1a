"""All methods in one population of many groups: one program, finite, each doing what its name says, and no harm."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import populations
import pytest
from conftest import GROUPS
from populations import assert_same

import flipjax
from flipjax.config import SELECTIONS, PopulationSpec
from flipjax.config.checks import PIXEL_KNOBS
from flipjax.config.methods import METHODS, Augmentation, Knobs, active_knobs, knobs_of
from flipjax.data import from_arrays
from flipjax.data.pool import gather
from flipjax.intervene import split_point
from flipjax.training.epoch import dfr, loop
from flipjax.training.epoch.step import make_batch
from flipjax.training.member import Status
from flipjax.training.network.forward import evaluate, nested
from flipjax.training.notes import mirror_notes
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.population import selected as population_selected
from flipjax.training.population.stacks import take_member
from flipjax.training.scenes import split_evenly

NAMES = (*METHODS, "balanced+group_dro", "balanced+bg_cutmix+jtt")
OVERRIDES = {"jtt_epochs": 2, "swa": 0.3, "ema": 0.9}
PAPER = Augmentation(crop=1.0, jitter=0.5)


batch_of = jax.jit(make_batch, static_argnums=0)
compiled = jax.jit(gather)


def of(name, tree):
    """The leaves of the member of a method."""
    return take_member(tree, NAMES.index(name))


def same(tree, other):
    return all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (tree, other)), strict=True))


@pytest.fixture(scope="module")
def rich(tiny):
    """The experiment that holds every active_knobs, every augmentation and every selection rule."""
    # A batch that lacks a group of the many would end the reference's GroupDRO.
    recipe = dataclasses.replace(tiny.train, epochs=4, patience=4, batch_size=24)
    recipe = dataclasses.replace(recipe, selection=SELECTIONS)
    model = dataclasses.replace(tiny.model, depth=1)  # A method asks nothing of deeper levels.
    active = {"active_knobs": active_knobs(NAMES), "active_numbers": ("crop", "jitter")}
    return dataclasses.replace(tiny, model=model, train=recipe, **active)


@pytest.fixture(scope="module")
def train(rich, pool, validation):
    return functools.partial(populations.train, rich, pool=pool, validation=validation)


@pytest.fixture(scope="module")
def members(make_member):
    """All of one seed but the last: two second runs that begin together are told apart."""
    seeds = {NAMES[-1]: 4}
    return {n: make_member(seeds.get(n, 3), 0.75, 0.01, knobs_of(n, OVERRIDES), PAPER) for n in NAMES}


@pytest.fixture(scope="module")
def trained(train, members):
    traces = []
    plain = loop.run_epoch

    def counting(*arguments):
        traces.append(arguments)
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run_epoch", counting)
        result = train(list(members.values()))
    result.traces = len(traces)
    return result


def test_all_methods_are_one_program_and_end_finite(trained, rich):
    # Once for the program of all epochs, and once for the shapes of its records.
    assert trained.traces <= 2 and len(trained.records) == 6
    last = trained.states[-1]
    assert (last.status == Status.FINISHED).all(), dict(zip(NAMES, last.status.tolist(), strict=True))
    for leaf in jax.tree.leaves((last.weights, [best.weights for best in last.best.values()])):
        assert np.isfinite(leaf).all()
    assert (last.best["val_loss"].epoch > 0).all() and (last.best["last"].epoch == last.epoch).all()
    assert last.epoch.tolist() == [rich.train.epochs + int(knobs_of(n, OVERRIDES).jtt_epochs) for n in NAMES]


def test_a_member_among_all_methods_equals_itself_among_its_copies(trained, train, members):
    chosen = ("group_dro", "balanced+bg_cutmix+jtt")
    copies = train([members[chosen[place % 2]] for place in range(len(NAMES))]).states[-1]
    for place in (0, 1, len(NAMES) - 2, len(NAMES) - 1):  # On another device, too.
        assert_same(of(chosen[place % 2], trained.states[-1]), take_member(copies, place))


def test_vmap_stays_close_to_the_loop(trained, train, rich, members):
    names = ["balanced+bg_cutmix+jtt", "bg_swap", "ema", "dfr", "group_dro"]
    chosen = np.array([NAMES.index(name) for name in names])
    states = take_member(trained.states[0], chosen)
    mapped = train([members[n] for n in names], spec=PopulationSpec(map="vmap", width=2), states=states, epochs=3)
    for name in ("train_loss", "valid_loss", "valid_flip"):
        np.testing.assert_allclose(mapped.records[0][name], trained.records[0][name][chosen], rtol=1e-3)
    after = mapped.states[-1]
    assert after.epoch.tolist() == [3] * 5 and after.restart.tolist() == [2, 0, 0, 0, 0]


def test_methods_differ_where_their_names_say(trained):
    last = trained.states[-1]
    for name in ("ema", "swa", "dfr"):  # After training.
        assert_same(of(name, last.weights), of("ce", last.weights))
    for name in ("dice_ce", "group_dro", "balanced", "bg_cutmix", "bg_swap"):
        assert not same(of(name, last.weights.params), of("ce", last.weights.params)), name
    for name in NAMES:
        # One step an epoch is compiled without a loop, and rounded twice.
        both = zip(*map(jax.tree.leaves, (of(name, last.weights), of(name, last.average))), strict=True)
        assert all(np.allclose(*each, atol=1e-5) for each in both) == (name not in ("ema", "swa")), name
        weights = of(name, last.group_weights)
        assert (np.ptp(weights) > 0) == ("group_dro" in name), name
        assert weights.shape == (GROUPS.count,) and abs(weights.sum() - 1) < 1e-5


def test_only_the_reference_augments_the_partner_of_a_mix(tiny, pool, make_member):
    """Where every image is one gradient, mirrored, a mirrored partner leaves no trace."""
    size = pool.masks.shape[-1]
    gradient = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint8)[:, None], (size, size, 3))
    spot = jnp.zeros((size, size), jnp.uint8).at[0, 0].set(1)
    whole = [jnp.broadcast_to(part, (len(pool.labels), *part.shape)) for part in (gradient, spot)]
    photos = dataclasses.replace(pool, kind="photo", images=whole[0], masks=whole[1])
    seen = compiled(photos, jnp.zeros((1, 2), jnp.int32))[0][:, :, ::-1]
    names, traces = ("bg_cutmix", "bg_cutmix_reference"), {}
    experiment = dataclasses.replace(tiny, active_knobs=active_knobs(names))
    for name in names:
        knobs = knobs_of(name, {"cutmix": 1.0})
        member = make_member(0, 0.5, knobs=knobs, augmentation=Augmentation(hflip=1.0))
        images = batch_of(experiment, member, photos, jnp.arange(8), jax.random.key(0))[0]
        traces[name] = int((images != seen).any((1, 2, 3)).sum())
    assert traces == {"bg_cutmix": 8, "bg_cutmix_reference": 0}


def test_the_second_run_weights_up_what_the_first_one_flips(trained, rich, members, pool):
    before, after = (of("jtt", trained.states[turn]) for turn in (1, 2))
    assert (after.epoch, after.restart, before.restart) == (2, 2, 0)
    # The first run is plain, so the same seed's plain member shows its weights.
    ce = of("ce", trained.states[2]).weights
    flip = jax.jit(evaluate, static_argnums=0)(rich, ce, pool, members["jtt"].rows).flip
    np.testing.assert_array_equal(after.image_weights, np.where(np.asarray(flip) > 0.5, 10.0, 1.0))
    assert 0 < (flip > 0.5).sum() < len(flip)
    assert_same(after.weights, of("jtt", trained.states[0]).weights)
    assert after.step == 0 and after.best["val_loss"].epoch == 0


@pytest.mark.parametrize("rule", SELECTIONS)
def test_each_rule_keeps_the_epoch_it_prefers(trained, rule):
    name = {"label_free_risk": "valid_risk"}.get(rule, rule.replace("val_", "valid_"))
    best = of("dice_ce", trained.states[-1].best[rule])
    curve = [np.nan if rule == "last" else of("dice_ce", record[name]) for record in trained.records[:4]]
    wanted = 4 if rule == "last" else 1 + np.argmin(np.negative(curve) if rule == "val_worst_group_iou" else curve)
    assert best.epoch == wanted
    assert_same(best.weights, of("dice_ce", trained.states[wanted].average))


def test_rules_that_kept_one_epoch_share_its_evaluation(trained, rich, monkeypatch):
    pool, (rows, *_) = trained.shared
    asked, plain = [], population_selected.selected_program(trained.layout)

    def noting(experiment, layout, function, weights, wanted, *shared):
        asked.append(np.asarray(wanted))
        return plain(experiment, layout, function, weights, wanted, *shared)

    def every(*inputs):
        decomposition = evaluate(*inputs)
        return decomposition, decomposition.risk_sum

    def later(*inputs):
        return evaluate(*inputs), None

    monkeypatch.setattr(population_selected, "selected_program", lambda layout: noting)
    result, risk_sum = population_selected.map_selected(trained.current, every, pool, rows, later=later)
    assert result.confusion.shape == (len(SELECTIONS), len(NAMES), 24, 4, 4)
    np.testing.assert_array_equal(risk_sum, result.risk_sum[:1])
    best, compiled = trained.states[-1].best, jax.jit(evaluate, static_argnums=0)
    epochs = np.stack([best[rule].epoch for rule in SELECTIONS])
    distinct = sum(len(set(column)) for column in epochs.T.tolist())
    slots = trained.current.slots  # The padding has slots too.
    assert np.sum([wanted[slots] for wanted in asked]) == distinct < epochs.size
    for name in ("ce", "jtt"):
        for place, rule in enumerate(SELECTIONS):
            wanted = compiled(rich, of(name, best[rule].weights), pool, rows)
            np.testing.assert_array_equal(of(name, result.confusion[place]), wanted.confusion)


def test_refitted_heads_touch_only_those_who_ask(trained, rich, pool, validation):
    states, rules = trained.current.states, SELECTIONS[:2]
    states = dataclasses.replace(states, best={rule: states.best[rule] for rule in rules})  # Less to compile.
    before, current = trained.states[-1], dataclasses.replace(trained.current, states=states)
    after = population.states_of(population_run.refit_heads(current, pool, validation))
    for name in NAMES:
        for rule in rules:
            old, new = (nested(rich, of(name, state.best[rule].weights)) for state in (before, after))
            head = old.params.pop("head"), new.params.pop("head")
            assert_same(old, new)
            assert same(*head) == (name != "dfr"), (name, rule)
    rows, groups, _, half = validation
    assert np.bincount(groups[half]).tolist() == np.bincount(groups[~half]).tolist() == [1] * GROUPS.count
    weights, own = (nested(rich, of("dfr", state.best["val_loss"].weights)) for state in (before, after))
    refit = jax.jit(dfr.refit, static_argnums=0)
    for fitted, others, close in ((half, ~half, True), (~half, half, False)):
        alone = nested(rich, refit(rich, weights, pool, rows[fitted], rows[others])).params["head"]["kernel"]
        assert np.allclose(own.params["head"]["kernel"], alone, rtol=1e-3, atol=1e-3) == close


def test_mirrored_images_of_a_pair_are_of_the_other_class_and_group(tiny, make_member, pool):
    member = make_member(augmentation=Augmentation(hflip=0.5))
    batch = jnp.arange(24)
    (images, masks, groups), (same_images, new_masks, new_groups) = (
        map(np.asarray, batch_of(dataclasses.replace(tiny, mirror=pairs), member, pool, batch, jax.random.key(0)))
        for pairs in ((), ((1, 3),))
    )
    np.testing.assert_array_equal(images, same_images)
    moved = (masks != new_masks).any((1, 2))
    classes = tiny.groups.class_of(groups) + 1
    # Classes 1 and 3 of 3 are a pair: half of their images are mirrored, and class 2 has no partner.
    assert 0 < moved[classes != 2].sum() < (classes != 2).sum() and not moved[classes == 2].any()
    partner = np.array([0, 3, 2, 1])
    np.testing.assert_array_equal(new_masks, np.where(moved[:, None, None], partner[masks], masks))
    wanted = tiny.groups.of(partner[classes] - 1, tiny.groups.scene_of(groups))
    np.testing.assert_array_equal(new_groups, np.where(moved, wanted, groups))


@pytest.mark.parametrize(
    ("names", "changes", "pairs", "notes"),
    [
        (("kidney_left", "kidney_right"), {}, ((1, 2),), 1),
        (("kidney_left", "kidney_right"), {"train.hflip": 0.0}, ((1, 2),), 0),
        (("kidney_left", "kidney_right"), {"train.mirror_labels": "keep"}, (), 0),
        (("kidney", "liver"), {}, (), 0),
    ],
    ids=["left and right", "not mirrored", "labels kept", "no pair"],
)
def test_pools_whose_classes_form_pairs_use_them_and_say_so(names, changes, pairs, notes):
    images = np.zeros((16, 16, 16, 3), np.uint8)
    masks = np.tile(np.arange(16) < 8, (16, 16, 1))
    classes, scenes = np.arange(16) % 2, np.arange(16) // 2 % 2
    data = from_arrays(images, masks, classes, scenes, class_names=names, scene_names=("a", "b"))
    sizes = {"split.n_train": 8, "split.n_val": 4, "split.n_test": 4, "train.batch_size": 4, "axes.rho": (0.5,)}
    train = flipjax.make_train("smoke", {**sizes, **changes}, data=data)
    assert train.experiment.mirror == pairs
    said = mirror_notes(dataclasses.replace(train.setup.program, experiment=train.experiment), data.catalog)
    assert len(said) == notes
    if said:
        assert said[0].startswith("mirrored images exchange the labels of kidney_left and kidney_right: ")


def test_a_batch_is_augmented_as_the_member_asks(tiny, make_member, pool):
    experiment = dataclasses.replace(tiny, active_numbers=("crop", "jitter"))

    def made(**probabilities):
        member = make_member(augmentation=Augmentation(**{"hflip": 0.0} | probabilities))
        return map(np.asarray, batch_of(experiment, member, pool, jnp.arange(24), jax.random.key(0)))

    images, masks, _ = made()
    assert (next(made(crop=1.0)) != images).any((1, 2, 3)).mean() > 0.5
    jittered, same_masks, _ = made(jitter=1.0)
    assert (jittered != images).any((1, 2, 3)).all() and (same_masks == masks).all()
    mirrored, mirrored_masks, _ = made(hflip=0.5)
    turned = (mirrored != images).any((1, 2, 3))
    assert 4 < turned.sum() < 20
    np.testing.assert_array_equal(mirrored, np.where(turned[:, None, None, None], images[:, :, ::-1], images))
    np.testing.assert_array_equal(mirrored_masks, np.where(turned[:, None, None], masks[:, :, ::-1], masks))


def test_a_swap_shows_the_object_on_each_other_scene_alike(tiny, make_member, pool):
    member = make_member(0, 0.75, 1e-3, Knobs(swap=1.0), Augmentation(hflip=0.0))
    batch, experiment = jnp.tile(jnp.arange(24), 40), dataclasses.replace(tiny, active_knobs=active_knobs(["bg_swap"]))
    images, masks, groups = map(np.asarray, batch_of(experiment, member, pool, batch, jax.random.key(0)))
    old, old_masks = map(np.asarray, compiled(pool, member.rows[batch]))
    np.testing.assert_array_equal(masks, old_masks)
    np.testing.assert_array_equal(images[masks > 0], old[masks > 0])
    before = np.asarray(member.groups)[batch]
    np.testing.assert_array_equal(GROUPS.class_of(groups), GROUPS.class_of(before))
    # A kind is lighter than the one before by more than its noise.
    shown = np.nanmean(np.where(masks[..., None] > 0, np.nan, images), (1, 2, 3))
    np.testing.assert_array_equal(np.rint((255 * shown - 40) / 50), GROUPS.scene_of(groups))
    steps = np.bincount((GROUPS.scene_of(groups) - GROUPS.scene_of(before)) % 4, minlength=4)
    assert steps[0] == 0 and (np.abs(steps[1:] / len(batch) - 1 / 3) < 0.06).all()


def test_frozen_features_refuse_each_method_that_changes_pixels(tiny, make_member, pool):
    batch, experiment = jnp.arange(24), dataclasses.replace(tiny, active_knobs=active_knobs(METHODS))
    for method, knobs in METHODS.items():
        member = make_member(knobs=knobs_of(method), augmentation=Augmentation(hflip=0.0))
        images, *_ = batch_of(experiment, member, pool, batch, jax.random.key(0))
        changed = bool((images != compiled(pool, member.rows[batch])[0]).any())
        assert changed == bool({*knobs} & {*PIXEL_KNOBS}), f"{method}: config.checks.PIXEL_KNOBS"


def test_the_centre_of_more_classes_makes_them_as_frequent():
    log_odds = np.random.default_rng(0).normal([2, 0, -1], 1, (30, 4, 3)).astype(np.float32)
    log_odds -= log_odds.mean(2, keepdims=True)
    classes = (log_odds.mean(1) - np.asarray(split_evenly(log_odds))).argmax(1)
    assert np.bincount(classes).tolist() == [10] * 3
    np.testing.assert_array_equal(split_evenly(log_odds[..., :2]), split_point(log_odds[..., :2], center="median"))
