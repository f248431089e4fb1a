"""Stored results: what is written is read, and what is damaged is refused in one sentence."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
from damage import DAMAGES, FUZZ, read_damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.config.groups import TWO_BY_TWO, Groups
from flipjax.page.gallery.store import load_gallery
from flipjax.results.arrays import ImageResults, MemberResults
from flipjax.results.cells import Cell, to_xarray
from flipjax.results.store import BLANK, concatenate
from flipjax.results.tables import blank_results
from flipjax.support.files import DamagedError
from flipjax.support.npz import read_arrays, write_arrays
from results.tables import CLASSES, RECORDED, cell_of, random_decomposition

STORED = RECORDED / "cells/000/results.npz"


@pytest.fixture(scope="module")
def cell():
    a, b, c, d = (random_decomposition(8, seed) for seed in range(4))
    return cell_of({"a": (a, c), "b": (b, d)}, np.arange(8) % 4, np.arange(8) // 2, rules=("val_loss", "last"))


def test_equal_results_have_equal_bytes_and_are_read_as_they_were(cell, tmp_path):
    first, second = tmp_path / "x" / "results.npz", tmp_path / "again.npz"
    for path in (first, second):
        write_arrays(path, cell.results, cell.images)
    assert first.read_bytes() == second.read_bytes()
    for table in (cell.results, cell.images):
        stored = read_arrays(first, type(table))
        assert stored.arrays().keys() == table.arrays().keys()
        for name, values in table.arrays().items():
            np.testing.assert_array_equal(getattr(stored, name), values)


def test_a_cell_gives_each_rule_its_decomposition(cell):
    np.testing.assert_array_equal(cell.decomposition("b", "test").confusion, random_decomposition(8, 1).confusion)
    last = cell.decomposition("b", "test", "last")
    np.testing.assert_array_equal(last.confusion, random_decomposition(8, 3).confusion)
    assert cell.groups == TWO_BY_TWO and cell.class_names == CLASSES


def test_a_cell_without_images_is_refused(cell):
    with pytest.raises(ValueError, match=r"^path: expected the file of the images, or stored_images; found neither$"):
        Cell(cell.results)


def test_usual_scenes_are_kept(tmp_path):
    groups = Groups(usual=((1,), (0,)))
    cell = cell_of({"a": [random_decomposition(8)]}, np.arange(8) % 4, np.full(8, -1), all_groups=groups)
    write_arrays(tmp_path / "results.npz", cell.results)
    assert read_arrays(tmp_path / "results.npz", MemberResults).groups == groups != TWO_BY_TWO


def test_parts_of_a_program_are_joined_with_curves_of_any_length(cell):
    parts = [cell.results.take([name]) for name in ("b", "a")]
    longer = dataclasses.replace(parts[1], measure=np.array(["loss"]), curves=np.ones((1, 5, 1)), epochs=np.array([5]))
    shorter = dataclasses.replace(parts[0], measure=np.array(["loss"]), curves=np.ones((1, 2, 1)), epochs=np.array([2]))
    joined = concatenate([shorter, longer])
    assert joined.member.tolist() == ["b", "a"] and joined.curves.shape == (2, 5, 1)
    assert np.isnan(joined.curves[0, 2:]).all() and np.isfinite(joined.curves[1]).all()
    np.testing.assert_array_equal(joined.take(["a", "b"]).values, cell.results.values)


def test_parts_that_an_earlier_version_stored_have_no_value_of_a_new_curve(cell):
    earlier, later = (cell.results.take([name]) for name in ("a", "b"))
    earlier = dataclasses.replace(earlier, measure=np.array(["loss"]), curves=np.ones((1, 2, 1)))
    later = dataclasses.replace(later, measure=np.array(["flip", "loss"]), curves=np.full((1, 2, 2), 2.0))
    joined = concatenate([earlier, later])
    assert joined.measure.tolist() == ["loss", "flip"]
    np.testing.assert_array_equal(joined.curves[:, 0], [[1, np.nan], [2, 2]])


def test_a_data_set_has_the_axes_of_the_grid(cell):
    pytest.importorskip("xarray", reason="it is no dependency")
    data = to_xarray(cell, images=True)
    assert data.fg_flip.dims == ("rule", "member", "part", "group") and data.rho.dims == ("member",)
    whole = data.fg_flip.sel(rule="last", member="b", part="test", group="all").item()
    assert whole == cell.results.values[1, 1, 1, 0, cell.results.quantity.tolist().index("fg_flip")]
    assert data.fg_flip.attrs["units"] == "share" and data.confusion.dims[:3] == ("rule", "member", "image")


def test_a_data_set_without_xarray_is_one_sentence(cell, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ModuleNotFoundError, match=r"dataset: expected the package xarray.*'flipjax\[xarray\]'"):
        to_xarray(cell)


def members_in(path):
    return read_arrays(path, MemberResults).arrays()


def images_in(path):
    return read_arrays(path, ImageResults).arrays()


def pictures_in(path):
    return dict(vars(load_gallery(path)))


FILES = {members_in: "results.npz", images_in: "results.npz", pictures_in: "gallery.npz"}
"""Readers of what a sweep stores, and their files."""


@settings(max_examples=FUZZ, deadline=None)
@given(st.sampled_from(list(FILES)), DAMAGES)
def test_a_damaged_file_gives_the_same_arrays_or_one_line(tmp_path_factory, arrays_in, damage):
    path = tmp_path_factory.getbasetemp() / FILES[arrays_in]
    if not path.exists():
        shutil.copy(STORED.with_name(path.name), path)
    arrays = read_damaged(arrays_in, path, damage, DamagedError)
    if arrays is not None:
        for name, values in arrays_in(path).items():
            np.testing.assert_array_equal(arrays[name], values)


def test_members_without_results_are_stored_in_the_shape_of_others(cell, tmp_path):
    blank = blank_results(cell.results, ["c"], [{"rho": 0.9, "seed": 3}], "failed")
    write_arrays(tmp_path / BLANK, blank)
    table = read_arrays(tmp_path / BLANK, MemberResults)
    assert table.settings() == [{"rho": 0.9, "seed": 3}] and np.isnan(table.values).all()
