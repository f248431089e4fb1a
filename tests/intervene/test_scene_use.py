"""Context use of members of a grid against its twin, and what scenes do not tell."""

import itertools

import numpy as np
import pytest

from flipjax.config.groups import Groups
from flipjax.intervene import scene_shift, scene_use, training_evidence


@pytest.mark.parametrize("shape", [(2, 2), (4, 3)])
def test_members_of_a_grid_use_what_they_use(shape):
    all_groups = Groups(*shape)
    generator = np.random.default_rng(shape[0])
    shares = np.where(np.isin(np.arange(all_groups.count), all_groups.common), 9, 1)
    evidence = training_evidence(np.repeat(np.arange(all_groups.count), shares), all_groups)
    if shape == (2, 2):
        np.testing.assert_allclose(evidence, np.log([[0.9, 0.1], [0.1, 0.9]]))
    log_odds = generator.normal(size=(30, 1, shape[0])) + 0.4 * evidence
    log_odds[3] = np.nan
    np.testing.assert_allclose(scene_use(log_odds, evidence), 0.4, atol=1e-12)
    noisy = log_odds + generator.normal(size=(30, *shape[::-1]))
    x, y = [], []  # Its twin: every pair of classes of every region, less its mean over the scenes.
    for region, (c, d) in itertools.product(np.delete(noisy, 3, axis=0), itertools.combinations(range(shape[0]), 2)):
        for rows, values in ((x, evidence[:, d] - evidence[:, c]), (y, region[:, d] - region[:, c])):
            rows += list(values - values.mean())
    np.testing.assert_allclose(scene_use(noisy, evidence), np.dot(x, y) / np.dot(x, x))


LOG_ODDS = np.array([[[1.0, -1.0], [-2.0, 2.0]], [[np.nan, np.nan]] * 2])


@pytest.mark.parametrize(
    "groups", [[0, 1, 2, 3], [0, 0, 3, 3], [0, 0, 0, 1]], ids=["rho 0.5", "rho 1", "a class alone"]
)
def test_what_scenes_do_not_tell_has_no_use(groups):
    assert np.isnan(scene_use(LOG_ODDS, training_evidence(np.array(groups), Groups())))


def test_a_shift_of_the_scene_is_that_of_the_log_odds():
    all_groups, log_odds = Groups(), LOG_ODDS
    assert scene_shift(log_odds, all_groups) == 6.0  # logit_2 - logit_1 goes from -2 to 4.
    assert np.isnan(scene_use(log_odds[:, :1], training_evidence(np.array([0, 0, 1, 2, 3, 3]), all_groups)))
    assert np.isnan(scene_shift(log_odds[1:], all_groups)) and np.isnan(scene_shift(log_odds[:, :1], all_groups))
