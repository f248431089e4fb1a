"""Files that flipjax writes and reads back: the same arrays, and no file that fills the memory or waits for ever."""

import dataclasses
import io
import json
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable

import jax
import numpy as np
import pytest
from damage import DAMAGES, FUZZ, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from results.tables import OLD, RECORDED

from flipjax.assays.results import read_assay
from flipjax.audit import stream
from flipjax.audit.compare import read_audit
from flipjax.config import PoolSpec
from flipjax.data import store as pool
from flipjax.data.images import Pixels
from flipjax.data.pool import Catalog, PoolItem
from flipjax.monitor.files import load_monitor, save_monitor
from flipjax.monitor.history import History
from flipjax.monitor.threshold import fit
from flipjax.report import charts
from flipjax.report.gallery.store import load_gallery
from flipjax.results.arrays import ImageResults, MemberResults
from flipjax.results.old_runs import convert_run
from flipjax.results.record import known_record, read_record
from flipjax.results.store import read
from flipjax.support import json_files, npz
from flipjax.support.files import DamagedError, digest
from flipjax.sweep import lock, workdir
from flipjax.sweep.checkpoint import RECORD as CHECKPOINT
from flipjax.sweep.checkpoint import Checkpoints

TIMES = 10
"""Most bytes of memory for a byte of a file."""
FREE = 2**21
"""Bytes of memory that reading any file may take."""
FITTED = fit(np.arange(99.0))


def test_arrays_are_read_as_they_were_written(tmp_path):
    arrays = {
        "zeros": np.zeros(10**6),
        "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "texts": np.array(["a", "größer"]),
        "one": np.array(True),
        "none": np.zeros((0, 3), np.uint8),
    }
    npz.write_arrays(tmp_path / "a.npz", arrays)
    again = npz.read_arrays(tmp_path / "a.npz")
    assert again.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].dtype == values.dtype


@pytest.mark.parametrize("change", [lambda a: {**a, "x": a["x"] + 1}, lambda a: {"y": a["x"]}, lambda a: {}])
def test_an_npz_whose_arrays_are_others_is_damaged(tmp_path, change):
    arrays = {"x": np.arange(4)}
    npz.write_arrays(tmp_path / "a.npz", arrays)
    assert npz.read_arrays(tmp_path / "a.npz").keys() == {"x"}
    np.savez(tmp_path / "b.npz", **change(arrays), digest=digest(arrays))
    with pytest.raises(DamagedError, match=r"b\.npz"):
        npz.read_arrays(tmp_path / "b.npz")


def archive(entries, compression=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as made:
        for name, content in entries.items():
            made.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape, kind="<f4"):
    """The header of an array without its values."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def names_of(path):
    with np.load(path) as stored:
        return [name for name in stored.files if name != "schema"]


def inflated(path):
    """Every array of a file as a long row of zeros, with right digests."""
    zeros = {name: np.zeros(2**22) for name in names_of(path)}
    axes = {name: {"axes": ["member"], "sha256": digest({name: zeros[name]})} for name in zeros}
    zeros["schema"] = np.array(json.dumps({"version": 1, "arrays": axes}))
    zeros["digest"] = np.array("0")
    return archive({name: npy(array) for name, array in zeros.items()})


def forged_headers(path):
    """Every array of a file as a header alone, which asks for terabytes."""
    axes = {name: {"axes": ["member"], "sha256": ""} for name in names_of(path)}
    schema = npy(np.array(json.dumps({"version": 1, "arrays": axes})))
    return archive({"schema": schema, **{name: header((10**12,)) for name in names_of(path)}})


ARCHIVES = {
    "zeros": inflated,
    "headers": forged_headers,
    "a text without end": lambda path: archive(
        {**dict.fromkeys(names_of(path), b""), "schema": header((), "<U999999999")}
    ),
    "many arrays": lambda path: archive({str(k): b"" for k in range(2**14)}),
    "another compression": lambda path: archive(dict.fromkeys(names_of(path), b""), zipfile.ZIP_LZMA),
    "no archive": lambda path: b"hello",
    "nothing": lambda path: b"",
}


def converted(path):
    shutil.copy(RECORDED / "config.json", path.parents[2])
    convert_run(path.parents[2])


def written_audit(path):
    np.savez(path, **dict.fromkeys(("names", "confusion", "risk_sum", "class_names"), np.zeros(1)))


def copied(name):
    return lambda path: shutil.copy(RECORDED / "cells/000" / name, path)


NPZ = {
    "members": ("results.npz", copied("results.npz"), lambda path: read(path, MemberResults)),
    "images": ("results.npz", copied("results.npz"), lambda path: read(path, ImageResults)),
    "gallery": ("gallery.npz", copied("gallery.npz"), load_gallery),
    "flipjax 0.1": ("cells/000/decomposition.npz", copied("results.npz"), converted),
    "audit": ("decomposition.npz", written_audit, lambda path: read_audit(path.parent)),
}
"""Files, how they are made, and their readers."""


def refused(read_file, path):
    """The most bytes of memory that a file takes before it is refused in one line that names it or its folder."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            read_file(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 700
    return peak


@pytest.mark.parametrize("bomb", ARCHIVES)
@pytest.mark.parametrize("kind", NPZ)
def test_an_npz_that_fills_the_memory_is_refused_before_it_does(kind, bomb, tmp_path):
    name, make, read_file = NPZ[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    path.write_bytes(ARCHIVES[bomb](path))
    assert refused(read_file, path) < max(FREE, TIMES * path.stat().st_size)


def test_a_gallery_of_many_small_images_is_refused(tmp_path):
    images = 10**5
    arrays = {
        **{name: np.zeros((images, 1, 1), np.uint8) for name in ("label", "prediction", "error_map", "risk_map")},
        **{name: np.zeros(images, np.int8) for name in ("flip_risk", "flip", "index", "group")},
        "image": np.zeros((images, 1, 1, 3), np.uint8),
        "kind": np.full(images, "a"),
        "member": np.full(images, "m"),
    }
    np.savez(tmp_path / "gallery.npz", **arrays, digest=digest(arrays))
    with pytest.raises(DamagedError, match=r"gallery\.npz: damaged \(expected fewer images, found 100,000\)"):
        load_gallery(tmp_path / "gallery.npz")


def test_results_of_many_texts_are_refused(tmp_path):
    with np.load(RECORDED / "cells/000/results.npz") as stored:
        arrays = {**stored, "quantity": np.full(10**6, "a")}
    np.savez(tmp_path / "results.npz", **arrays)
    with pytest.raises(DamagedError, match=r"quantity: expected at most [\d,]+ texts, found \(1000000,\)"):
        read(tmp_path / "results.npz", MemberResults)


def in_folder(read_folder):
    return lambda path: read_folder(path.parent)


def checkpoint(path):
    said = []
    assert Checkpoints(path.parents[1], identity="mine").restore({}, say=said.append) is None
    raise ValueError(said[0])


JSON = {
    "record of a run": ("config.json", in_folder(read_record)),
    "a run to continue": ("config.json", lambda path: workdir._read_json(path)),
    "assay": ("assay.json", in_folder(read_assay)),
    "monitor": ("monitor.json", load_monitor),
    "history": ("history.jsonl", lambda path: History(path, FITTED)),
    "checkpoint": (f"1/{CHECKPOINT}", checkpoint),
}
TEXTS = {
    "objects": b"[" + b"{}," * 2**19 + b"{}]",
    "lists": b"[" + b"[]," * 2**19 + b"[]]",
    "texts": b"[" + b'"ab",' * 2**18 + b'"ab"]',
    "fields": b"{" + b",".join(b'"%d":{}' % k for k in range(2**17)) + b"}",
    "deep": b"[" * 10**6,
    "no JSON": b"hello",
    "no UTF-8": b'{"a": "\xe9"}',
    "nothing": b"",
    "null": b"null",
    "another object": b"{}",
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", JSON)
def test_a_json_that_fills_the_memory_or_is_of_another_program_is_refused(kind, text, tmp_path):
    name, read_file = JSON[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(TEXTS[text])
    assert refused(read_file, path) < max(FREE, TIMES * len(TEXTS[text]))


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_or_owner_that_cannot_be_read_is_as_none(text, tmp_path):
    (tmp_path / "config.json").write_bytes(TEXTS[text])
    (tmp_path / f".lock{lock.OWNER}").write_bytes(TEXTS[text])
    assert known_record(tmp_path) == {} and lock._owner_of(tmp_path / ".lock") == lock.Owner()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("read_file", [npz.read_arrays, json_files.read_json, lambda path: History(path, FITTED)])
def test_a_pipe_is_refused(read_file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError):
        read_file(tmp_path / "pipe")


def item(name, y, scene):
    return PoolItem(name, (name,), y=y, scene=scene)


def drawn_pixels(photo):
    return Pixels(np.full((16, 16, 3), 9 * photo.y, np.uint8), np.full((16, 16), 1 + photo.y, np.uint8), 1.0)


def listing():
    photos = [item(f"{y}{scene}.png", y, scene) for y in (0, 1) for scene in (0, 1)]
    return Catalog("here", "photo", ("cat", "dog"), ("in", "out"), photos), drawn_pixels


TREE = {"b": np.arange(3.0), "a": [np.zeros((2, 2), np.int32)]}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a file of each kind, as flipjax writes it."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(RECORDED, folder / "run")
    shutil.copytree(OLD, folder / "old")
    save_monitor(FITTED, folder / "monitor.json")
    with History(folder / "history.jsonl", FITTED) as history:
        history.add(0.5)
        history.add(np.nan, "a")
    Checkpoints(folder / "checkpoints", identity="mine").save(1, TREE)
    labels = np.arange(24).reshape(2, 3, 4) % 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "draw_chart", lambda chart: {"svg": b"<svg/>"})
        with stream(folder / "audit", kind="masks", class_names=["background", "cat", "dog"]) as audit:
            audit.add(labels[::-1], labels)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        pool.load_pool(PoolSpec(size=16), "key", listing)
    return folder


def converted_members(folder):
    convert_run(folder)
    return read(folder / "cells/000/results.npz", MemberResults).arrays()


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
    "members": Kind("run/cells/000/results.npz", "", lambda path: read(path, MemberResults).arrays()),
    "images": Kind("run/cells/000/results.npz", "", lambda path: read(path, ImageResults).arrays()),
    "gallery": Kind("run/cells/000/gallery.npz", "", lambda path: load_gallery(path).arrays()),
    "flipjax 0.1": Kind("old", "cells/000/decomposition.npz", converted_members),
    "record": Kind("run", "config.json", read_record, exact=False),
    "monitor": Kind("monitor.json", "", lambda path: {"scores": load_monitor(path).scores}),
    "history": Kind("history.jsonl", "", lambda path: list(History(path, FITTED).seen()), exact=False),
    "checkpoint": Kind("checkpoints", f"1/{CHECKPOINT}", read_checkpoint, exact=False),
    "arrays of a checkpoint": Kind("checkpoints", "1/arrays/0/manifest.ocdbt", read_checkpoint),
    "audit": Kind("audit", "decomposition.npz", rates_of_audit),
    "summary of an audit": Kind("audit", "summary.json", rates_of_audit, exact=False),
    "record of a pool": Kind("flipjax/pools/key", "pool.json", read_stored_pool),
    "images of a pool": Kind("flipjax/pools/key", "images.npy", read_stored_pool),
}


@settings(max_examples=2 * FUZZ, deadline=None)
@given(st.sampled_from(sorted(KINDS)), DAMAGES)
def test_a_damaged_file_of_any_kind_is_one_line_or_the_same(written, tmp_path_factory, name, damage):
    kind = KINDS[name]
    whole = kind.read(written / kind.folder) if kind.exact else None
    copy = tmp_path_factory.mktemp("damaged") / kind.folder
    copy.parent.mkdir(parents=True, exist_ok=True)
    if kind.name:
        shutil.copytree(written / kind.folder, copy)
    else:
        shutil.copy(written / kind.folder, copy)
    path = copy / kind.name
    path.write_bytes(damaged(path.read_bytes(), *damage))
    try:
        found = kind.read(copy)
    except ValueError as error:
        assert str(copy) in str(error) and "\n" not in str(error)
    else:
        if kind.exact:
            jax.tree.map(np.testing.assert_array_equal, found, whole)
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)
