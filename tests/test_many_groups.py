"""Three classes in four scenes: what trains, validates and is chosen on F x S groups."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import populations
import pytest

from flipjax.data.correlation import Table, half_of_each_group
from flipjax.data.pool import Pool, gather
from flipjax.groups import Groups
from flipjax.intervene import split_point
from flipjax.methods import Augmentation, Knobs, active_knobs, knobs_of
from flipjax.task import split_evenly
from flipjax.training import dfr, population, run
from flipjax.training.member import Member
from flipjax.training.network import predict
from flipjax.training.optimise import Recipe
from flipjax.training.population import take_member
from flipjax.training.step import make_batch

GROUPS = Groups(3, 4, ((0,), (1, 3), (2,)))
OBJECTS, PHOTOS = 8, 2  # Of a class, of a kind of scene.
METHODS = ("balanced+bg_cutmix+dfr", "bg_swap+group_dro")


@pytest.fixture(scope="module")
def many(tiny):
    recipe = dataclasses.replace(tiny.train, epochs=2, selection=("val_worst_group_iou", "val_flip"))
    return dataclasses.replace(tiny, train=recipe, active_knobs=active_knobs((*METHODS, "jtt")), groups=GROUPS)


@pytest.fixture(scope="module")
def zoo(pool):
    """Grey squares, lighter by class, on even scenes: of kind k lighter than k / 4 and darker than (k + 1) / 4."""
    count = GROUPS.classes * OBJECTS
    alpha = np.resize(np.asarray(pool.masks), (count, *pool.masks.shape[1:]))
    labels = np.repeat(np.arange(GROUPS.classes, dtype=np.uint8) + 1, OBJECTS)
    images = (alpha[..., None] > 0) * np.stack([60 * labels] * 3, -1)[:, None, None]
    kinds = np.repeat(np.arange(GROUPS.scenes), PHOTOS)
    light = kinds * 64 + 8 + np.arange(len(kinds)) % PHOTOS * 32
    scenes = np.broadcast_to(light[:, None, None, None], (len(kinds), *images.shape[1:]))
    arrays = {"images": images.astype(np.uint8), "masks": alpha, "labels": labels, "scenes": scenes.astype(np.uint8)}
    return jax.tree.map(jnp.asarray, Pool(kind="composite", **arrays))


def make_table(scene_of):
    objects = np.arange(GROUPS.classes * OBJECTS)
    y, scene = objects // OBJECTS, np.array([scene_of(*divmod(i, OBJECTS)) for i in objects])
    rows = np.stack([objects, scene * PHOTOS + objects % PHOTOS], axis=1).astype(np.int32)
    groups = GROUPS.of(y, scene).astype(np.int32)
    return Table(rows, groups, np.full(len(rows), -1, np.int32), half_of_each_group(groups))


@pytest.fixture(scope="module")
def members():
    """Three of four images of a class in its usual scene."""
    table = make_table(lambda y, rank: GROUPS.usual[y][0] if rank < 6 else (GROUPS.usual[y][0] + rank) % 4)
    recipe = Recipe(*map(jnp.float32, Recipe(learning_rate=1e-2)))
    return [
        Member(
            jax.random.key(1), jnp.asarray(table.rows), jnp.asarray(table.groups), recipe, Knobs(*map(jnp.float32, k))
        )
        for k in map(knobs_of, METHODS)
    ]


@pytest.fixture(scope="module")
def validation():
    return make_table(lambda y, rank: rank % 4)


@pytest.fixture(scope="module")
def trained(many, members, zoo, validation):
    return populations.train(many, members, zoo, validation)


@pytest.fixture(scope="module")
def answer(many, zoo):
    """Answers for weights on rows of the zoo: classes as predicted and true, on the host."""
    compiled = jax.jit(predict, static_argnums=0)

    def answer(weights, rows):
        logits = np.asarray(compiled(many, weights, zoo, rows))
        assert logits.shape[-1] == 4
        return logits.argmax(-1), np.asarray(gather(zoo, rows)[1])

    return answer


def flipped(labels, truth):
    return (labels != truth) & (labels > 0) & (truth > 0)


def test_a_member_equals_itself_among_others(trained, many, members, zoo, validation):
    states, copies = trained.states[-1], populations.train(many, [members[1]] * 2, zoo, validation).states[-1]
    populations.assert_same(*(take_member(each, 1) for each in (states, copies)))
    assert states.group_weights.shape == (2, GROUPS.count) and np.ptp(states.group_weights[1]) > 0


def test_validation_is_the_slow_one(trained, validation, answer):
    record = trained.records[-1]
    rows, groups, _, refit = validation
    for place, kept in enumerate((~refit, np.ones(len(rows), bool))):  # DFR keeps half to itself.
        labels, truth = (each[kept] for each in answer(take_member(trained.states[-1].weights, place), rows))
        wanted = flipped(labels, truth).sum() / (truth > 0).sum()
        np.testing.assert_allclose(record["valid_flip"][place], wanted, rtol=1e-6)
        ious = []
        for y, s in np.ndindex(3, 4):
            inside = groups[kept] == 4 * y + s
            of_truth, of_label = truth[inside] == y + 1, labels[inside] == y + 1
            ious.append((of_truth & of_label).sum() / (of_truth | of_label).sum())
        np.testing.assert_allclose(record["valid_worst_group_iou"][place], min(ious), rtol=1e-6)


def test_dfr_refits_on_half_of_each_group(trained, many):
    zoo, (rows, groups, _, half) = trained.shared
    assert np.bincount(groups[half]).tolist() == np.bincount(groups[~half]).tolist() == [1] * GROUPS.count
    refitted = population.refit_heads(many, trained.layout, trained.current, *trained.shared)
    before, after = (states.best["val_flip"].weights for states in (trained.states[-1], population.states_of(refitted)))
    populations.assert_same(*(take_member(weights, 1) for weights in (before, after)))
    refit, head = jax.jit(dfr.refit, static_argnums=0), take_member(after.params["head"], 0)
    for fitted, others, close in ((half, ~half, True), (~half, half, False)):
        alone = refit(many, take_member(before, 0), zoo, rows[fitted], rows[others]).params["head"]
        assert np.allclose(head["kernel"], alone["kernel"], rtol=1e-3, atol=1e-3) == close


def test_jtt_weights_up_the_images_of_which_more_than_half_is_flipped(trained, many, members, zoo, answer):
    member = dataclasses.replace(members[0], knobs=Knobs(*map(jnp.float32, knobs_of("jtt", {}))))
    state = take_member(trained.states[-1], 0)
    state.weights.params["head"]["bias"] = np.float32([-9, 0, 0, 0])  # Some class everywhere.
    weights = jax.jit(run.second_run, static_argnums=0)(many, member, zoo, state).image_weights
    labels, truth = answer(state.weights, member.rows)
    shares = flipped(labels, truth).sum((1, 2)) / (truth > 0).sum((1, 2))
    assert 0 < (shares > 0.5).sum() < len(shares)
    np.testing.assert_array_equal(weights, np.where(shares > 0.5, member.knobs.jtt_weight, 1))


def test_a_swap_goes_to_each_other_scene_alike(many, members, zoo):
    member = dataclasses.replace(members[1], knobs=Knobs(swap=1.0), augmentation=Augmentation(hflip=0.0))
    batch, before = jnp.tile(jnp.arange(len(member.rows)), 40), np.tile(member.groups, 40)
    images, masks, groups = jax.jit(make_batch, static_argnums=0)(many, member, zoo, batch, jax.random.key(0))
    images, masks, groups = map(np.asarray, (images, masks, groups))
    np.testing.assert_array_equal(GROUPS.class_of(groups), GROUPS.class_of(before))
    # The background says which scene it is.
    shown = [image[mask == 0].mean() * 255 // 64 for image, mask in zip(images, masks, strict=True)]
    np.testing.assert_array_equal(shown, GROUPS.scene_of(groups))
    steps = np.bincount((GROUPS.scene_of(groups) - GROUPS.scene_of(before)) % 4, minlength=4)
    assert steps[0] == 0 and (np.abs(steps[1:] / len(batch) - 1 / 3) < 0.06).all()


def test_the_centre_of_more_classes_makes_them_as_frequent():
    log_odds = np.random.default_rng(0).normal([2, 0, -1], 1, (30, 4, 3)).astype(np.float32)
    log_odds -= log_odds.mean(2, keepdims=True)
    classes = (log_odds.mean(1) - np.asarray(split_evenly(log_odds))).argmax(1)
    assert np.bincount(classes).tolist() == [10] * 3
    np.testing.assert_array_equal(split_evenly(log_odds[..., :2]), split_point(log_odds[..., :2], center="median"))
