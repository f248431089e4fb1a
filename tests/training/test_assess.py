"""Evaluation of trained members, agreement of seeds, and the table of scores."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import run_folder
from ml_collections import ConfigDict
from results.tables import rows_of

from flipjax import configure, intervene, metrics
from flipjax.config import ConfigError, PopulationSpec, default_config
from flipjax.config.plan import plan
from flipjax.data.pool import gather
from flipjax.metrics.statistics import selective
from flipjax.results.arrays import MemberResults
from flipjax.results.cells import Cell
from flipjax.results.scores import WANTED_RISK, disagreement, pairwise_dice, score_rows, shared_pixels, unpack_classes
from flipjax.support.frames import records_of
from flipjax.support.npz import read_arrays, write_arrays
from flipjax.training.assess import Questions, pack_classes
from flipjax.training.member import init_state
from flipjax.training.network.forward import logits_of
from flipjax.training.population import devices
from flipjax.training.population import members as population
from flipjax.training.population import selected as population_selected
from flipjax.training.scenes import check_scenes, training_scenes
from flipjax.training.task import check_pool


def test_a_member_of_a_population_answers_as_it_does_alone(tiny, make_member, pool, validation):
    members = [make_member(seed) for seed in (0, 1, 2)]
    layout = devices.make_layout(PopulationSpec(map="loop"), members=3)
    current = population.create(tiny, layout, members)
    rows = validation[0][:16]  # The mean of surroundings leaves out an incomplete batch.
    photos = np.asarray(pool.scenes) / np.float32(255)
    kinds = np.arange(len(photos)) // (len(photos) // 2)
    last = intervene.choose_scenes(jax.random.key(0), photos, kinds=kinds, scenes="both", count=2)

    def ask(questions, last):
        return population_selected.map_selected(current, questions, *devices.replicate(layout, (pool, rows, last)))

    questions = Questions()
    mapped = ask(questions, last)
    unscened = ask(Questions("surroundings", logit_scores=False, mirror_and_fills=False, masks=False), rows)
    assert (unscened.scores, unscened.fill_log_odds, unscened.masks) == (None, None, None)
    weights = jax.jit(init_state, static_argnums=0)(tiny, members[1]).weights

    @jax.jit  # One program: operation by operation it would be a hundred.
    def alone(weights, rows, scenes, shares):
        def predict(images):
            return logits_of(tiny, weights, images)

        def odds_on(scenes, shares, mirror):
            return intervene.scene_marginal(predict, images, scenes, weights=shares, logits=logits, mirror=mirror)

        images, labels = gather(pool, rows)
        logits = predict(images)
        region = intervene.foreground(logits)
        odds = odds_on(scenes, shares, True), odds_on(intervene.mean_surroundings(images, region), None, True)
        pasted = intervene.paste(images, intervene.soft_edge(region), intervene.blurred_scenes(images))
        blurred = intervene.region_log_odds(predict(pasted), region)
        scores = metrics.logit_scores(logits) | {"mirror": intervene.mirror_risk(logits, predict(images[:, :, ::-1]))}
        counts = metrics.decompose(logits, labels).confusion, metrics.region_sums(logits, labels)
        return *counts, odds, blurred, scores, logits.argmax(-1)

    confusion, sums, odds, blurred, scores, wanted = alone(weights, rows, *last)
    assert mapped.scores.shape == (1, 3, len(rows), len(questions.scores))
    np.testing.assert_array_equal(mapped.decomposition.confusion[0, 1], confusion)
    for leaf, each in zip(mapped.regions, sums, strict=True):
        np.testing.assert_allclose(leaf[0, 1], each, rtol=1e-4, atol=1e-4)
    for answer, each in zip((mapped, unscened), odds, strict=True):
        np.testing.assert_allclose(answer.scene_log_odds[0, 1], each, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mapped.fill_log_odds[0, 1, :, 1], blurred, rtol=1e-4, atol=1e-5)
    for place, name in enumerate(questions.scores):
        np.testing.assert_allclose(mapped.scores[0, 1, :, place], scores[name], rtol=1e-4, atol=1e-5)
    classes = unpack_classes(mapped.masks[0, 1])
    np.testing.assert_array_equal(classes, np.asarray(wanted).reshape(len(rows), -1))


@pytest.mark.parametrize("scenes", ["mean", "sampled", "both"])
def test_training_scenes_are_those_of_the_training_split(pool, scenes):
    train = np.array([0, 1, 2, 5, 6, 7])
    split = SimpleNamespace(train=SimpleNamespace(scenes=train))
    catalog = SimpleNamespace(scene_kind=np.repeat([0, 1], 4))
    study = SimpleNamespace(pool=pool, parts=SimpleNamespace(split=split), catalog=catalog)
    photos = np.asarray(pool.scenes)[train] / np.float32(255)
    wanted = ConfigDict({"scenes": scenes})
    check_scenes(study, wanted)
    options = {"kinds": np.repeat([0, 1], 3), "scenes": scenes}
    chosen = intervene.choose_scenes(jax.random.key(3), photos, **options)
    for found, each in zip(training_scenes(study, wanted, seed=3), chosen, strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-5)


PHOTOS = SimpleNamespace(kind="photo")


def test_photos_have_no_scenes_to_sample():
    with pytest.raises(ConfigError, match=r"intervene\.scenes: expected mean or none for a pool of photos"):
        check_scenes(SimpleNamespace(pool=PHOTOS), ConfigDict({"scenes": "sampled"}))


def test_photos_have_no_backgrounds_to_swap():
    swapping = plan(configure(default_config(), {"axes.method": ("bg_swap",)})).programs[0]
    with pytest.raises(ConfigError, match=r"config\.axes\.method: expected a composite pool"):
        check_pool(swapping, PHOTOS)


def test_large_masks_are_kept_at_even_distances():
    labels = np.random.default_rng(0).integers(0, 5, (2, 96, 96))
    classes = unpack_classes(np.asarray(pack_classes(jnp.asarray(labels), classes=5)))
    np.testing.assert_array_equal(classes, labels[:, 1::2, 1::2].reshape(2, -1))


def test_seeds_are_compared_pixel_by_pixel():
    classes = np.random.default_rng(1).integers(0, 3, (3, 4, 10))
    classes[0, 0] = classes[1, 1] = classes[2, 1] = 0
    shared = shared_pixels(classes)
    dice, differ = pairwise_dice(shared), disagreement(shared)
    for i in range(4):
        pairs = []
        for a, b in itertools.combinations(classes[:, i], 2):
            present = [c for c in (1, 2) if c in a or c in b]
            terms = [2 * ((a == c) & (b == c)).sum() / ((a == c).sum() + (b == c).sum()) for c in present]
            pairs.append(np.mean(terms) if terms else 1.0)
        np.testing.assert_allclose(dice[i], np.mean(pairs))
        for m in range(3):
            inside = classes[m, i] > 0
            others = np.delete(classes[:, i], m, axis=0)[:, inside]
            wanted = np.mean(others != classes[m, i, inside]) if inside.any() else np.nan
            np.testing.assert_allclose(differ[m, i], wanted)


@pytest.fixture
def cell(tmp_path):
    """Two seeds, with DFR's heads fitted on the first half of the images."""
    run_folder.make_run(tmp_path, [{"rho": 0.9, "seed": seed, "method": "dfr"} for seed in (0, 1)])
    path = tmp_path / "cells/only/results.npz"
    cell = Cell(read_arrays(path, MemberResults), path)
    half = np.arange(run_folder.IMAGES) < run_folder.IMAGES // 2
    return with_images(cell, refit=np.concatenate([half, half]))


def with_images(cell, **changed):
    """The cell with other arrays of its images."""
    return dataclasses.replace(cell, stored_images=dataclasses.replace(cell.images, **changed))


def test_scores_follow_from_what_is_stored(cell, tmp_path):
    write_arrays(tmp_path / "cell.npz", cell.results, cell.images)
    again = Cell(read_arrays(tmp_path / "cell.npz", MemberResults), tmp_path / "cell.npz")
    table = score_rows({"000": again}, rows_of(again))
    pd.testing.assert_frame_equal(table, score_rows({"000": cell}, rows_of(cell)))
    rows = {row["score"]: row for row in records_of(table[table["member"] == cell.members[0]])}
    assert {*rows} == {"flip_risk", *run_folder.SCORES, "disagreement", "pairwise_dice"}
    assert [rows[name]["passes"] for name in ("flip_risk", "mirror", "disagreement", "pairwise_dice")] == [1, 2, 2, 2]
    images = cell.images_of(cell.members[0], "test")
    score = cell.images.scores[0, cell.images.inside("test"), run_folder.SCORES.index("mirror")]
    rare, row = images.in_group("rare"), rows["mirror"]
    aurc = selective.risk_coverage(score[rare], images.flip[rare]).mean()
    assert row["aurc_rare"] == pytest.approx(aurc, abs=1e-6)
    assert row["augrc_all"] == pytest.approx(selective.areas(score[None], images.flip).augrc.item(), abs=1e-6)
    # The images that fitted DFR's head choose no threshold.
    half = run_folder.IMAGES // 2
    threshold = selective.threshold_at_risk(score[half:], images.flip[half:], risk=WANTED_RISK)
    assert row["test_coverage_all"] == pytest.approx(np.mean(score <= threshold))
    whole = rows["flip_risk"]
    rows = rows_of(cell).set_index(["member", "split", "group"])
    test = rows.loc[cell.members[0], "test", "all"]
    assert (whole["auroc_all"], whole["aurc_all"]) == (test["risk_auroc"], test["risk_aurc"])


@pytest.mark.parametrize(("method", "unknown"), [("ce", False), ("cutmix+dfr", True)])
def test_what_has_no_score_or_fitted_a_head_is_left_out_of_scores(cell, method, unknown):
    energy, test = run_folder.SCORES.index("energy"), cell.images.inside("test")
    scores = cell.images.scores.copy()
    scores[0, :8, energy] = scores[0, np.flatnonzero(test)[:8], energy] = np.nan
    cell = with_images(cell, scores=scores, refit=np.ones(len(test), bool))
    flipped = cell.images_of(cell.members[0], "test").flip > 0.5
    table = score_rows({"000": cell}, rows_of(cell).assign(method=method))
    assert table["threshold"].isna().all() == unknown
    auroc = table[table["member"] == cell.members[0]].set_index("score")["auroc_all"]
    assert auroc["energy"] == round(selective.auroc(scores[0, test][8:, energy], flipped[8:]), 6)


def test_scores_that_are_not_stored_are_left_out(cell):
    bare = with_images(cell, score=None, scores=None, masks=None)
    assert score_rows({"000": bare}, rows_of(cell))["score"].tolist() == ["flip_risk", "flip_risk"]


def test_members_that_diverged_have_no_scores(cell):
    assert score_rows({"000": cell}, rows_of(cell).assign(status="diverged")).empty
