"""Files that flipjax writes and reads back: the same arrays, and damage in one line."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable

import jax
import numpy as np
import pytest
from damage import DAMAGES, FUZZ, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from results.tables import RECORDED

from flipjax.assays.journal import STATE, stored_state
from flipjax.assays.opened import open_assay
from flipjax.audit import compare, stream
from flipjax.audit.compare import compare_audits
from flipjax.audit.comparison.stored import read_audit
from flipjax.config import PoolSpec
from flipjax.config.plan import plan
from flipjax.config.reading import configure
from flipjax.data import store as pool
from flipjax.data.decoding.images import Pixels
from flipjax.data.pool import Catalog, PoolItem
from flipjax.monitor.files import load_monitor, save_monitor
from flipjax.monitor.history import open_state
from flipjax.monitor.lines import read_table
from flipjax.monitor.threshold import fit
from flipjax.page import charts
from flipjax.page.gallery.store import load_gallery
from flipjax.results import load
from flipjax.results.arrays import ImageResults, MemberResults
from flipjax.results.record import known_record, read_record
from flipjax.support import npz
from flipjax.support.files import DamagedError
from flipjax.support.frames import read_csv
from flipjax.sweep import lock
from flipjax.sweep.checkpoint import RECORD as CHECKPOINT
from flipjax.sweep.checkpoint import Checkpoints
from flipjax.sweep.folder.claim import claim
from flipjax.sweep.folder.record import read_own_record
from flipjax.sweep.folder.workdir import Workdir

FITTED = fit(np.arange(99.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrays(npz.NamedArrays):
    zeros: np.ndarray = npz.array("zero", dtype=np.float64)
    columns: np.ndarray = npz.array("row", "column", dtype=np.float64)
    texts: np.ndarray = npz.array("text", dtype=np.str_)
    one: np.ndarray = npz.array(dtype=np.bool_)
    none: np.ndarray | None = npz.array("row", "column", dtype=np.uint8, optional=True)


ARRAYS = Arrays(
    zeros=np.zeros(10**5),
    columns=np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    texts=np.array(["a", "größer"]),
    one=np.array(True),
    none=np.zeros((0, 3), np.uint8),
)


@pytest.mark.parametrize("table", [ARRAYS, dataclasses.replace(ARRAYS, none=None)], ids=["all", "without optional"])
def test_arrays_are_read_as_they_were_written(tmp_path, table):
    npz.write_arrays(tmp_path / "a.npz", table)
    again = npz.read_arrays(tmp_path / "a.npz", Arrays).arrays()
    assert again.keys() == table.arrays().keys()
    for name, values in table.arrays().items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].dtype == values.dtype


def test_an_array_that_nobody_wants_is_not_read(tmp_path):
    npz.write_arrays(tmp_path / "a.npz", ARRAYS)
    assert npz.read_arrays(tmp_path / "a.npz", Arrays, without=("none",)).none is None


def test_elements_are_selected_along_every_axis_of_the_name():
    selected = ARRAYS.select("row", [])
    assert selected.columns.shape == (0, 4) and selected.texts.tolist() == ["a", "größer"]
    np.testing.assert_array_equal(ARRAYS.select("column", [2, 0]).columns, ARRAYS.columns[:, [2, 0]])


CHANGES = {
    "another value": lambda arrays: {**arrays, "one": np.array(False)},
    "an array less": lambda arrays: {name: array for name, array in arrays.items() if name != "texts"},
    "no schema": lambda arrays: {name: array for name, array in arrays.items() if name != npz.SCHEMA},
    "another version": lambda arrays: {**arrays, npz.SCHEMA: np.array('{"version": 2}')},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_npz_whose_arrays_are_others_is_damaged(tmp_path, change):
    npz.write_arrays(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz") as stored:
        np.savez(tmp_path / "b.npz", **change(dict(stored)))
    with pytest.raises(DamagedError, match=r"b\.npz"):
        npz.read_arrays(tmp_path / "b.npz", Arrays)


def test_arrays_of_a_version_without_schema_are_taken_as_they_are(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS.arrays(), other=np.zeros(3))
    read = npz.read_arrays(tmp_path / "a.npz", Arrays, needs_schema=False)
    assert read.texts.tolist() == ["a", "größer"]


def in_folder(read_folder):
    return lambda path: read_folder(path.parent)


def checkpoint(path):
    said = []
    assert Checkpoints(path.parents[1], identity="mine").restore({}, say=said.append) is None
    raise ValueError(said[0])


JSON = {
    "record of a run": ("config.json", in_folder(read_record)),
    "a run to continue": ("config.json", read_own_record),
    "assay": ("assay.json", in_folder(open_assay)),
    "monitor": ("monitor.json", load_monitor),
    "history": ("stream.json", lambda path: open_state(path, FITTED)),
    "checkpoint": (f"1/{CHECKPOINT}", checkpoint),
}
TEXTS = {
    "no JSON": b"hello",
    "no UTF-8": b'{"a": "\xe9"}',
    "nothing": b"",
    "null": b"null",
    "another object": b"{}",
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", JSON)
def test_a_json_of_another_program_is_refused_in_one_line_that_names_it(kind, text, tmp_path):
    name, read_file = JSON[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(TEXTS[text])
    with pytest.raises(ValueError) as error:
        read_file(path)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_that_cannot_be_read_is_as_none(text, tmp_path):
    (tmp_path / "config.json").write_bytes(TEXTS[text])
    assert known_record(tmp_path) == {}


def item(name, y, scene):
    return PoolItem(name, (name,), y=y, scene=scene)


def drawn_pixels(photo):
    return Pixels(np.full((16, 16, 3), 9 * photo.y, np.uint8), np.full((16, 16), 1 + photo.y, np.uint8), 1.0)


def listing():
    photos = [item(f"{y}{scene}.png", y, scene) for y in (0, 1) for scene in (0, 1)]
    return Catalog("here", "photo", ("cat", "dog"), ("in", "out"), photos), drawn_pixels


TREE = {"b": np.arange(3.0), "a": [np.zeros((2, 2), np.int32)]}


ASSAY = {"findings": ["scanner: used."], "verdict": {"word": "used", "reason": "Because."}, "images": 40}
ASSAY_STATE = {"asked": {"attribute": "scanner"}, "wave": 2, "seconds": {"small/kept_100/wave_2": 4.5}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a file of each kind, as flipjax writes it."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(RECORDED, folder / "run")
    # The recorded run is of an earlier version, which is read, but not continued.
    record = json.loads((RECORDED / "config.json").read_text())
    del record["config"]["grid"]
    (folder / "run" / "config.json").write_text(json.dumps(record))
    go_on(folder / "run")
    save_monitor(FITTED, folder / "monitor.json")
    state = open_state(folder / "stream.json", FITTED)
    state.add(0.5)
    state.add(np.nan, "a")
    Checkpoints(folder / "checkpoints", identity="mine").save(1, TREE)
    labels = np.arange(24).reshape(2, 3, 4) % 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "draw_chart", lambda chart: {"svg": b"<svg/>"})
        with stream(folder / "audit", kind="masks", class_names=["background", "cat", "dog"]) as audit:
            audit.add(labels[::-1], labels)
        compare_audits(folder / "audit", folder / "audit", out=folder / "comparison")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        pool.load_pool(PoolSpec(size=16), "key", listing)
    (folder / "assay").mkdir()
    (folder / "assay/assay.json").write_text(json.dumps(ASSAY))
    (folder / "assay" / STATE).write_text(json.dumps(ASSAY_STATE))
    (folder / "images.csv").write_text("name,flip_risk,flip\na,0.5,0.25\ngrößer,,\n", encoding="utf-8")
    return folder


def read_checkpoint(folder):
    said = []
    found = Checkpoints(folder, identity="mine").restore(TREE, say=said.append)
    if found is None:
        raise DamagedError(said[0])
    return jax.tree.leaves(found)


def read_stored_pool(folder):
    try:
        arrays, catalog = pool.read_pool(folder)
    except DamagedError as error:
        # The warning of the caller names the folder.
        raise DamagedError(f"{folder}: {error}") from error
    return {**{name: np.array(array) for name, array in arrays.items()}, "names": np.array(catalog.object_names)}


def rates_of_audit(folder):
    stored = read_audit(folder)
    return {"names": np.array(stored.names), "confusion": stored.decomposition.confusion}


def tables_of_run(folder):
    run = load(folder)
    return {"members": np.array(run.results.to_csv()), "history": np.array(run.history.to_csv())}


def table_of_csv(path):
    return np.array(read_csv(path).to_csv())


@functools.cache
def small_program():
    (program,) = plan(configure("smoke")).programs
    return program


def go_on(folder):
    """What a command that continues a run reads and writes of its record."""
    config = json.loads((RECORDED / "config.json").read_text())["config"]
    del config["grid"]
    mine = lock.Lock(folder)
    record = Workdir(folder).record
    try:
        claim(mine, config, fresh=False)
        record.describe(config, {"name": "config"}, {"jax": "0.10.2", "device": "2 x cpu (cpu)"}, strict=False)
        assert record.settle_library(small_program(), "xla")
        assert record.settle_form(small_program(), "loop") == record.form_of(small_program())
        record.settle_pool(small_program(), dataclasses.replace(listing()[0], content="0" * 32))
        record.add_session(1.5)
    finally:
        mine.release()


def failed_comparison(folder):
    compare.mark_failed(folder, "an error")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file that flipjax writes and reads back."""

    folder: str
    """What its reader needs, below the folder of all kinds; a folder, or the file itself."""
    name: str
    """The file, below that folder; '' for the file itself."""
    read: Callable
    """Reads the folder or file."""
    exact: bool = True
    """Whether no damage is read as other values: the file has a digest or a checksum."""


KINDS = {
    "members": Kind("run/cells/000/results.npz", "", lambda path: npz.read_arrays(path, MemberResults).arrays()),
    "images": Kind("run/cells/000/results.npz", "", lambda path: npz.read_arrays(path, ImageResults).arrays()),
    "gallery": Kind("run/cells/000/gallery.npz", "", lambda path: load_gallery(path).arrays()),
    "record": Kind("run", "config.json", read_record, exact=False),
    "run to continue": Kind("run", "config.json", go_on, exact=False),
    "record of tables": Kind("run", "config.json", tables_of_run, exact=False),
    "tables": Kind("run", "cells/000/results.npz", tables_of_run),
    "results.csv": Kind("run", "results.csv", lambda path: table_of_csv(path / "results.csv"), exact=False),
    "scores.csv": Kind("run", "scores.csv", lambda path: table_of_csv(path / "scores.csv"), exact=False),
    "images of an audit": Kind("images.csv", "", read_table, exact=False),
    "assay": Kind("assay", "assay.json", lambda folder: open_assay(folder).verdict, exact=False),
    "state of an assay": Kind("assay", STATE, lambda folder: stored_state(folder).seeds_per_batch, exact=False),
    "comparison": Kind("comparison", "compare.json", failed_comparison, exact=False),
    "monitor": Kind("monitor.json", "", lambda path: {"scores": load_monitor(path).scores}),
    "history": Kind("stream.json", "", lambda path: open_state(path, FITTED).images),
    "checkpoint": Kind("checkpoints", f"1/{CHECKPOINT}", read_checkpoint, exact=False),
    "arrays of a checkpoint": Kind("checkpoints", "1/arrays/0/manifest.ocdbt", read_checkpoint),
    "audit": Kind("audit", "decomposition.npz", rates_of_audit),
    "summary of an audit": Kind("audit", "summary.json", rates_of_audit, exact=False),
    "record of a pool": Kind("flipjax/pools/key", "pool.json", read_stored_pool),
    "images of a pool": Kind("flipjax/pools/key", "images.npy", read_stored_pool),
}


def copy_of(kind, written, target):
    """Copies what a kind is read from, and returns the copy and the file that gets damaged."""
    copy = target / kind.folder
    copy.parent.mkdir(parents=True, exist_ok=True)
    if kind.name:
        shutil.copytree(written / kind.folder, copy)
    else:
        shutil.copy(written / kind.folder, copy)
    return copy, copy / kind.name


def check_read(kind, copy, whole):
    """Reads a damaged copy: an error names it in one line, and where damage shows at all, values are the same."""
    try:
        found = kind.read(copy)
    except ValueError as error:
        assert str(copy) in str(error) and "\n" not in str(error)
    else:
        if kind.exact:
            jax.tree.map(np.testing.assert_array_equal, found, whole)


@settings(max_examples=2 * FUZZ, deadline=None)
@given(st.sampled_from(sorted(KINDS)), DAMAGES)
def test_a_damaged_file_of_any_kind_is_one_line_or_the_same(written, tmp_path_factory, name, damage):
    kind = KINDS[name]
    whole = kind.read(written / kind.folder) if kind.exact else None
    target = tmp_path_factory.mktemp("damaged")
    copy, path = copy_of(kind, written, target)
    path.write_bytes(damaged(path.read_bytes(), *damage))
    try:
        check_read(kind, copy, whole)
    finally:
        shutil.rmtree(target, ignore_errors=True)
