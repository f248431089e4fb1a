"""Whether members have learnt the classes: by hand, and on the runs that the margin was decided on."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from flipjax.metrics import Decomposition
from flipjax.results.learning import MARGIN, class_accuracy, never_predicted, statuses
from flipjax.results.rows import CLASSES_NOT_LEARNT
from results.tables import cell_of

STUDIES = pathlib.Path(__file__).parents[2] / "sweeps" / "studies"


def counts(correct, flipped, *, missed=10):
    """Counts of eight images, two of each group; the rare groups flip wholly."""
    confusion = np.zeros((8, 3, 3), np.int32)
    groups = np.arange(8) % 4
    label = 1 + groups // 2
    rare = np.isin(groups, (1, 2))
    image = np.arange(8)
    confusion[image, label, label] = np.where(rare, 0, correct)
    confusion[image, label, 3 - label] = np.where(rare, 100, flipped)
    confusion[image, label, 0] = missed
    return Decomposition(confusion, np.ones(8, np.float32))


def cell(*members, status="finished"):
    named = {f"m{place}": [member] for place, member in enumerate(members)}
    return cell_of(named, np.arange(8) % 4, np.full(8, -1), status=status)


def test_the_accuracy_is_that_of_found_pixels_of_common_groups():
    accuracy = class_accuracy(cell(counts(60, 20), counts(60, 20, missed=400), counts(0, 0)).results)
    np.testing.assert_allclose(accuracy, [[0.75, 0.75, np.nan]], atol=1e-5)


@pytest.mark.parametrize(
    ("correct", "wanted"),
    [(50, CLASSES_NOT_LEARNT), (69, CLASSES_NOT_LEARNT), (71, "finished"), (0, CLASSES_NOT_LEARNT)],
)
def test_a_member_has_learnt_the_classes_above_the_margin(correct, wanted):
    assert statuses(cell(counts(correct, 100 - correct)).results).tolist() == [[wanted]]


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_members_that_did_not_train_keep_their_status(status):
    assert statuses(cell(counts(50, 50), status=status).results).tolist() == [[status]]


def test_classes_without_a_predicted_pixel_are_named():
    alone = counts(60, 20)
    alone.confusion[..., 1] += alone.confusion[..., 2]
    alone.confusion[..., 2] = 0
    assert never_predicted([cell(counts(60, 20), alone)]) == {"m1": ["skimmer"]}


def recorded(study, rho=None):
    """The accuracies of the members of a study's page, on validation images."""
    rows = pd.read_csv(STUDIES / study / "results.csv")
    rows = rows[(rows.split == "val") & (rows.group == "common") & (rows.selection == rows.selection[0])]
    if rho is not None:
        rows = rows[rows.rho == rho]
    return rows.fg_correct / (rows.fg_correct + rows.fg_flip)


def test_of_recorded_runs_the_drawn_grid_has_learnt_and_small_networks_on_photos_have_not():
    assert recorded("correlation_grid").min() > 0.5 + MARGIN + 0.1
    assert recorded("scene_swap").min() > 0.5 + MARGIN + 0.1
    assert 0.5 < recorded("photos_grid", rho=0.5).max() < 0.5 + MARGIN - 0.05
