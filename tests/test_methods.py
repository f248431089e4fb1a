"""All methods in one population: one program, finite, each doing what its name says, and nothing to its neighbours."""

import dataclasses
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax.config import SELECTIONS, ConfigError, PopulationSpec, default_config
from flipjax.data.pool import gather
from flipjax.methods import METHODS, Augmentation, Knobs, active_knobs, knobs_of
from flipjax.plan import plan
from flipjax.sweep.study import check_pool, missing_group_notes
from flipjax.training import dfr, epoch, jtt, placement, population
from flipjax.training.dfr import refit
from flipjax.training.member import Status, init_state
from flipjax.training.predict import evaluate
from flipjax.training.step import make_batch, train_step

NAMES = (*METHODS, "balanced+group_dro", "balanced+bg_cutmix+jtt")
OVERRIDES = {"jtt_epochs": 2, "swa": 0.3, "ema": 0.9}
PAPER = Augmentation(crop=1.0, jitter=0.5)
LOOP = PopulationSpec(map="loop")


@pytest.fixture(scope="module")
def rich(tiny):
    """The experiment that holds every active_knobs, every augmentation and every selection rule."""
    recipe = dataclasses.replace(tiny.train, epochs=4, patience=4, strongest=PAPER, selection=SELECTIONS)
    model = dataclasses.replace(tiny.model, depth=1)  # A method asks nothing of deeper levels.
    return dataclasses.replace(tiny, model=model, train=recipe, active_knobs=active_knobs(NAMES))


@pytest.fixture(scope="module")
def members(make_member):
    return {name: make_member(3, 0.75, 0.01, knobs_of(name, OVERRIDES), PAPER) for name in NAMES}


def run(rich, members, pool, validation, states=None, until=99):
    """Trains a population as a sweep does; returns its layout, last population, and states and records by epoch."""
    layout = placement.make_layout(LOOP, members=len(members))
    shared = placement.share(layout, (pool, validation))
    current = population.create(rich, layout, members, states)
    result = SimpleNamespace(layout=layout, states=[population.states_of(current)], records=[])
    while (current.status == Status.RUNNING).any() and len(result.records) < until:
        current, record = population.run_epoch(rich, layout, current, *shared)
        current = jtt.start_second_runs(rich, layout, current, pool)
        result.states.append(population.states_of(current))
        result.records.append(record)
    result.current = current
    return result


@pytest.fixture(scope="module")
def trained(rich, members, pool, validation):
    traces = []
    plain = epoch.run_epoch

    def counting(*arguments):
        traces.append(arguments)
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch, "run_epoch", counting)
        result = run(rich, list(members.values()), pool, validation)
    result.traces = len(traces)
    return result


def test_all_methods_are_one_program(trained):
    # Once for the program of all epochs, once for the shapes of its records, which an abstract evaluation asks for.
    assert (trained.traces, len(trained.records)) == (2, 6)


def test_every_method_ends_finite(trained, rich):
    last = trained.states[-1]
    assert (last.status == Status.FINISHED).all(), dict(zip(NAMES, last.status.tolist(), strict=True))
    for leaf in jax.tree.leaves((last.weights, [best.weights for best in last.best.values()])):
        assert np.isfinite(leaf).all()
    assert (last.best["val_loss"].epoch > 0).all() and (last.best["last"].epoch == last.epoch).all()
    budgets = {name: rich.train.epochs + int(knobs_of(name, OVERRIDES).jtt_epochs) for name in NAMES}
    assert last.epoch.tolist() == list(budgets.values())


def test_levels_rates_knobs_and_augmentation_need_no_new_program(trained, rich, make_member, pool, validation):
    config = default_config()
    config.axes.rho, config.axes.seed, config.axes.method = (0.75,), (0, 1), ("group_dro", "bg_cutmix")
    config.axes.dro_step, config.axes.crop, config.axes.jitter = (0.01, 1.0), (0.5, 1.0), (0.0, 0.5)
    (program,) = plan(config)
    assert len(program.settings) == 32 and {s.axes["crop"] for s in program.settings} == {0.5, 1.0}
    settings = program.settings[:: len(program.settings) // len(NAMES)][: len(NAMES)]
    levels = np.linspace(0.5, 1, len(NAMES))
    varied = [
        make_member(s.axes["seed"], r, r / 99, s.knobs, s.augmentation) for s, r in zip(settings, levels, strict=True)
    ]
    compiled = population._epoch._cache_size()
    after = run(rich, varied, pool, validation, until=1)
    assert population._epoch._cache_size() == compiled
    kernels = np.asarray(after.states[-1].weights.params["head"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) > len(NAMES) // 2


def test_a_member_among_all_methods_equals_itself_among_its_copies(trained, rich, members, pool, validation):
    for name in ("group_dro", "balanced+bg_cutmix+jtt"):
        index = NAMES.index(name)
        copies = run(rich, [members[name]] * len(NAMES), pool, validation).states[-1]
        for other in (0, len(NAMES) - 1):  # On another device, too.
            taken = [population.take_member(states, i) for states, i in ((trained.states[-1], index), (copies, other))]
            jax.tree.map(np.testing.assert_array_equal, *taken)


def test_a_run_continued_amid_a_second_run_equals_an_unbroken_one(trained, rich, members, pool, validation):
    again = run(rich, list(members.values()), pool, validation, states=trained.states[3], until=1)
    jax.tree.map(np.testing.assert_array_equal, again.states[-1], trained.states[4])


def test_vmap_stays_close_to_the_loop(trained, rich, members, pool, validation):
    names = ["balanced+bg_cutmix+jtt", "bg_swap", "ema", "dfr", "group_dro"]
    chosen = np.array([NAMES.index(name) for name in names])
    layout = placement.make_layout(PopulationSpec(map="vmap", width=2), members=len(names))
    shared = placement.share(layout, (pool, validation))
    states = population.take_member(trained.states[0], chosen)
    current = population.create(rich, layout, [members[name] for name in names], states)
    for turn in range(3):
        current, record = population.run_epoch(rich, layout, current, *shared)
        current = jtt.start_second_runs(rich, layout, current, pool)
        if turn == 0:
            for name in ("train_loss", "valid_loss", "valid_flip"):
                np.testing.assert_allclose(record[name], trained.records[0][name][chosen], rtol=1e-3)
    after = population.states_of(current)
    assert after.epoch.tolist() == [3] * 5 and after.restart.tolist() == [2, 0, 0, 0, 0]
    result = population.map_selected(rich, layout, current, evaluate, pool, validation[0])
    assert (result.confusion.sum((-2, -1)) == 16 * 16).all()


def test_methods_that_differ_after_training_share_it(trained):
    last, plain = trained.states[-1], NAMES.index("ce")
    for name in ("ema", "swa", "dfr"):
        own, other = (population.take_member(last.weights, i) for i in (NAMES.index(name), plain))
        jax.tree.map(np.testing.assert_array_equal, own, other)
    for name in ("dice_ce", "group_dro", "balanced", "bg_cutmix", "bg_swap"):
        own, other = (population.take_member(last.weights.params, i) for i in (NAMES.index(name), plain))
        assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (own, other)), strict=True)), name
    for name in NAMES:
        index = NAMES.index(name)
        own, average = (population.take_member(tree, index) for tree in (last.weights, last.average))
        same = all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (own, average)), strict=True))
        assert same == (name not in ("ema", "swa")), name


def test_group_weights_move_for_group_dro_alone(trained):
    weights = trained.states[-1].group_weights
    for name, own in zip(NAMES, weights, strict=True):
        assert (np.ptp(own) > 0) == ("group_dro" in name), name
        np.testing.assert_allclose(own.sum(), 1, rtol=1e-5)


def test_the_second_run_weights_up_what_the_first_one_flips(trained, rich, members, pool):
    index, member = NAMES.index("jtt"), members["jtt"]
    before, after = (population.take_member(trained.states[turn], index) for turn in (1, 2))
    assert (after.epoch, after.restart, before.restart) == (2, 2, 0)
    # The first run is plain, so the same seed's plain member shows its weights.
    ce = population.take_member(trained.states[2], NAMES.index("ce"))
    flip = jax.jit(evaluate, static_argnums=0)(rich, ce.weights, pool, member.rows).flip
    np.testing.assert_array_equal(after.image_weights, np.where(np.asarray(flip) > 0.5, 10.0, 1.0))
    start = population.take_member(trained.states[0], index)
    jax.tree.map(np.testing.assert_array_equal, after.weights, start.weights)
    assert after.step == 0 and after.best["val_loss"].epoch == 0


@pytest.mark.parametrize("rule", SELECTIONS)
def test_each_rule_keeps_the_epoch_it_prefers(trained, rule):
    names = {"val_loss": "valid_loss", "val_worst_group_iou": "valid_worst_group_iou"}
    names |= {"val_loss_at_rho": "valid_loss_at_rho", "val_flip": "valid_flip", "label_free_risk": "valid_risk"}
    index = NAMES.index("dice_ce")
    best = population.take_member(trained.states[-1].best[rule], index)
    if rule == "last":
        wanted = 4
    else:
        curve = np.array([record[names[rule]][index] for record in trained.records[:4]])
        wanted = 1 + int(np.argmax(curve) if rule == "val_worst_group_iou" else np.argmin(curve))
    assert best.epoch == wanted
    jax.tree.map(
        np.testing.assert_array_equal, best.weights, population.take_member(trained.states[wanted].average, index)
    )


def test_rules_that_kept_one_epoch_share_its_evaluation(trained, rich, pool, validation, monkeypatch):
    shared = placement.share(trained.layout, (pool, validation[0]))
    asked, plain = [], population._map_selected

    def noting(experiment, layout, function, weights, wanted, *shared):
        asked.append(np.asarray(wanted))
        return plain(experiment, layout, function, weights, wanted, *shared)

    def every(*inputs):
        decomposition = evaluate(*inputs)
        return decomposition, decomposition.risk_sum

    def later(*inputs):
        return evaluate(*inputs), None

    monkeypatch.setattr(population, "_map_selected", noting)
    result, risk_sum = population.map_selected(rich, trained.layout, trained.current, every, *shared, later=later)
    assert result.confusion.shape == (len(SELECTIONS), len(NAMES), 8, 3, 3)
    np.testing.assert_array_equal(risk_sum, result.risk_sum[:1])
    best, compiled = trained.states[-1].best, jax.jit(evaluate, static_argnums=0)
    epochs = np.stack([best[rule].epoch for rule in SELECTIONS])
    distinct = sum(len(set(column)) for column in epochs.T.tolist())
    slots = trained.current.slots  # The padding has slots too.
    assert np.sum([wanted[slots] for wanted in asked]) == distinct < epochs.size
    for index in (0, NAMES.index("jtt")):
        for place, rule in enumerate(SELECTIONS):
            wanted = compiled(rich, population.take_member(best[rule].weights, index), pool, validation[0])
            np.testing.assert_array_equal(result.confusion[place, index], wanted.confusion)


def test_the_reference_group_dro_ends_in_nan_and_the_published_one_does_not(tiny, make_member, pool):
    """As in the paper's code: batches of one group zero the other groups' weights, for good."""
    rows = jnp.tile(jnp.array([[0, 0]], jnp.int32), (24, 1))
    groups = jnp.repeat(jnp.array([0, 3, 1], jnp.int32), 8)
    names = ("group_dro", "group_dro_reference")
    experiment = dataclasses.replace(tiny, active_knobs=active_knobs(names))
    made = [dataclasses.replace(make_member(0, 0.75, 1e-3, knobs_of(n)), rows=rows, groups=groups) for n in names]
    init, step = (jax.jit(each, static_argnums=0) for each in (init_state, train_step))
    weights = {}
    for name, member in zip(names, made, strict=True):
        own, losses = init(experiment, member), []
        for batch in range(3):  # Each of one group.
            own, loss = step(experiment, member, pool, own, jnp.arange(8) + 8 * batch, jax.random.key(batch))
            losses.append(float(loss))
        weights[name] = np.asarray(own.group_weights), losses
    assert np.isnan(weights["group_dro_reference"][1]).tolist() == [False, True, True]
    assert np.isfinite(weights["group_dro"][1]).all() and (weights["group_dro"][0] > 0.2).all()


def test_refitted_heads_touch_only_those_who_ask(trained, rich, pool, validation):
    before = trained.states[-1]
    refitted = dfr.refit_heads(rich, trained.layout, trained.current, pool, validation)
    after = population.states_of(refitted)
    for index, name in enumerate(NAMES):
        for rule in SELECTIONS:
            old, new = (population.take_member(state.best[rule].weights, index) for state in (before, after))
            head = old.params.pop("head"), new.params.pop("head")
            jax.tree.map(np.testing.assert_array_equal, old, new)
            same = all((a == b).all() for a, b in zip(*map(jax.tree.leaves, head), strict=True))
            assert same == (name != "dfr"), (name, rule)
    weights = population.take_member(before.best["val_loss"].weights, NAMES.index("dfr"))
    rows, _, _, half = validation
    alone = jax.jit(refit, static_argnums=0)(rich, weights, pool, rows[half], rows[~half])
    own = population.take_member(after.best["val_loss"].weights, NAMES.index("dfr"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), own, alone)


def test_methods_that_cannot_run_are_refused_before_anything_is_trained():
    config = default_config()
    config.axes.method, config.split.n_val = ("dfr",), 4
    with pytest.raises(ConfigError, match=re.escape("config.split.n_val: expected at least 8, half of them for dfr")):
        plan(config)
    config.axes.method, config.grid.train = ("jtt",), {"epochs": (10, 2)}
    with pytest.raises(ConfigError, match=re.escape("expected at most config.train.epochs (2); found 4")):
        plan(config)
    config = default_config()
    config.axes.method = ("bg_swap",)
    with pytest.raises(ConfigError, match=r"config\.axes\.method: expected a composite pool"):
        check_pool(plan(config)[0], SimpleNamespace(kind="photo"))
    check_pool(plan(config)[0], SimpleNamespace(kind="composite"))


def test_a_group_without_images_is_said_once_a_method(make_member):
    config = default_config()
    config.axes.rho, config.axes.seed = (0.5, 0.99), (0, 1)
    config.axes.method = ("ce", "bg_cutmix", "balanced+group_dro")
    (program,) = plan(config)
    # At 0.99 of twelve objects a class all are in their usual scene.
    members = [make_member(s.axes["seed"], s.axes["rho"], 1e-3, s.knobs) for s in program.settings]
    lines = missing_group_notes(program, members)
    assert [line.split(":")[0] for line in lines] == ["bg_cutmix at rho 0.99", *["balanced+group_dro at rho 0.99"] * 2]
    assert lines[0].endswith("its images take a random colour instead of a partner's background")


def test_a_swap_shows_the_object_on_the_other_scene(tiny, make_member, pool):
    member = make_member(0, 1.0, 1e-3, Knobs(swap=1.0), Augmentation(hflip=0.0))
    batch, experiment = jnp.arange(24), dataclasses.replace(tiny, active_knobs=active_knobs(["bg_swap"]))
    images, masks, groups = jax.jit(make_batch, static_argnums=0)(experiment, member, pool, batch, jax.random.key(0))
    old, old_masks = gather(pool, member.rows)
    np.testing.assert_array_equal(masks, old_masks)
    np.testing.assert_array_equal(groups, member.groups ^ 1)
    mask = np.asarray(masks) > 0
    np.testing.assert_array_equal(np.asarray(images)[mask], np.asarray(old)[mask])
    # Water is brighter than land in this pool, by more than its noise.
    background = np.where(mask[..., None], np.nan, images)
    bright = np.nanmean(background, (1, 2, 3)) > 0.4
    np.testing.assert_array_equal(bright, np.asarray(groups) % 2 == 1)
