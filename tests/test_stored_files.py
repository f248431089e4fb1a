"""Files that flipjax writes and reads back: the same arrays, and no file that fills the memory or waits for ever."""

import dataclasses
import functools
import io
import json
import math
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable

import jax
import numpy as np
import pytest
from damage import DAMAGES, FUZZ, REPLACED, damaged, with_another_value
from hypothesis import given, settings
from hypothesis import strategies as st
from results.tables import OLD, RECORDED

from flipjax.assays.association import Association
from flipjax.assays.contrast import Contrast, FlipEstimate
from flipjax.assays.cues import AurocInterval, CueAuroc
from flipjax.assays.network import read_schedule, store_schedule
from flipjax.assays.population import Design, NetworkSetting
from flipjax.assays.record import to_plain
from flipjax.assays.remedy import CounterExamples, Level
from flipjax.assays.results import Assay, GroupRow, read_assay
from flipjax.assays.schedule import Schedule
from flipjax.assays.verdict import AssayVerdict, Learnt
from flipjax.audit import compare, stream
from flipjax.audit.compare import compare_audits, read_audit
from flipjax.config import ConfigError, PoolSpec
from flipjax.configurations import configure
from flipjax.data import store as pool
from flipjax.data.images import Pixels
from flipjax.data.pool import Catalog, PoolItem
from flipjax.monitor.drift import DriftTest
from flipjax.monitor.files import load_monitor, save_monitor
from flipjax.monitor.history import History
from flipjax.monitor.lines import read_table
from flipjax.monitor.threshold import fit
from flipjax.plan import plan
from flipjax.report import charts, page
from flipjax.report.gallery.store import load_gallery
from flipjax.results import load, run_data, store
from flipjax.results.arrays import ImageResults, MemberResults
from flipjax.results.frames import read_csv
from flipjax.results.old_runs import convert_run
from flipjax.results.record import known_record, read_record
from flipjax.results.store import read, write
from flipjax.results.tables import blank_results
from flipjax.support import json_files, npz
from flipjax.support.files import DamagedError, digest, sha256
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
    zeros = {name: np.zeros(2**19) for name in names_of(path)}
    axes = {name: {"axes": ["member"], "sha256": digest({name: zeros[name]})} for name in zeros}
    zeros["schema"] = np.array(json.dumps({"version": 1, "arrays": axes}))
    zeros["digest"] = np.array("0")
    return archive({name: npy(array) for name, array in zeros.items()})


def forged_headers(path):
    """Every array of a file as a header alone, which asks for terabytes."""
    axes = {name: {"axes": ["member"], "sha256": ""} for name in names_of(path)}
    schema = npy(np.array(json.dumps({"version": 1, "arrays": axes})))
    return archive({"schema": schema, **{name: header((10**12,)) for name in names_of(path)}})


@functools.cache
def many_arrays():
    return archive({str(k): b"" for k in range(2**14)})


ARCHIVES = {
    "zeros": inflated,
    "headers": forged_headers,
    "a text without end": lambda path: archive(
        {**dict.fromkeys(names_of(path), b""), "schema": header((), "<U999999999")}
    ),
    "many arrays": lambda path: many_arrays(),
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


def written_members(path, **changed):
    """Writes results of the recorded run's form whose values are all alike, with noise beside them, as compressed."""
    recorded = read(RECORDED / "cells/000/results.npz", MemberResults)
    results = dataclasses.replace(recorded, **changed)
    arrays = results.arrays()
    axes = {name: {"axes": results.axes_of(name), "sha256": digest({name: array})} for name, array in arrays.items()}
    arrays["schema"] = np.array(json.dumps({"version": 1, "arrays": axes}))
    total = sum(array.nbytes for array in arrays.values())
    path.parent.mkdir(parents=True)
    # An npz may unpack to eight times its size.
    noise = np.random.default_rng(0).integers(0, 256, total // 6, np.uint8)
    np.savez_compressed(path, **arrays, noise=noise)


def alike(members=8, epochs=0, measures=0, rules=1):
    """Arrays of members that are alike and were trained for so many epochs."""
    recorded = read(RECORDED / "cells/000/results.npz", MemberResults)
    shape = (rules, members, *recorded.values.shape[2:])
    return {
        "member": np.array([f"m{member}" for member in range(members)]),
        "epochs": np.full(members, epochs, np.int32),
        "measure": np.array([f"loss_{measure}" for measure in range(measures)], np.str_),
        "curves": np.zeros((members, epochs, measures)),
        "rule": np.array([f"rule_{rule}" for rule in range(rules)]),
        "axis": np.array(["rho"]),
        "setting": np.full((members, 1), "0.5"),
        "status": np.full(members, "finished"),
        "best_epoch": np.zeros((rules, members), np.int32),
        "values": np.zeros(shape),
    }


TABLES = {
    "a history of one measure": {"epochs": 10**5, "measures": 1},
    "a history of ten measures": {"epochs": 2 * 10**4, "measures": 10},
    "a history without measures": {"epochs": 10**9},
    "many members": {"members": 2000, "epochs": 1, "measures": 1},
    "many rules": {"rules": 200},
}
"""How many members, epochs and measures a file of few bytes holds."""


@pytest.mark.parametrize("counts", TABLES.values(), ids=TABLES)
def test_tables_that_would_take_much_more_than_their_file_are_refused(counts, tmp_path):
    path = tmp_path / "cells/000/results.npz"
    written_members(path, **alike(**counts))
    assert refused(load, tmp_path) < max(store.FREE, TIMES * path.stat().st_size)


def test_tables_of_members_that_are_alike_are_written_so_that_they_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FREE", 2**16)
    recorded = read(RECORDED / "cells/000/results.npz", MemberResults)
    names = [f"m{member}" for member in range(300)]
    blank = blank_results(recorded, names, [{"rho": 0.5}] * len(names), "failed")
    write(tmp_path / "results.npz", blank)
    assert (
        (tmp_path / "results.npz").stat().st_size < blank.memory() < TIMES * (tmp_path / "results.npz").stat().st_size
    )
    assert read(tmp_path / "results.npz", MemberResults).member.tolist() == names


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
    "fields of numbers": b"{" + b",".join(b'"%d":1' % k for k in range(2**17)) + b"}",
    "fields of many objects": b"[" + b",".join(b'{"%d":1}' % k for k in range(2**17)) + b"]",
    "short numbers": b"[" + b"0.1," * 2**18 + b"0]",
    "negative digits": b"[" + b"-9," * 2**18 + b"0]",
    "numbers of three digits": b"[" + b"257," * 2**18 + b"0]",
    "numbers beside a wide letter": '["\U0001d6d1",'.encode() + b"51.6," * 2**18 + b"0]",
    "wide texts": b"[" + b'"\\u0101",' * 2**17 + b'"a"]',
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


LISTS = {
    "runs of pixels": b"23, 300, 1, 150, 7, ",
    "outlines": b"510.66,12.5,423.01,",
    "short numbers apart": b"0.1, ",
    "names of images": b'"scan_00017.png",',
    "annotations": b'{"image_id":17,"category_id":1,"bbox":[12.5,30.25,101.5,99.75],"iscrowd":0},',
    "items of a pool": b'{"name": "1.png", "files": [], "y": 0, "scene": 0, "part": -1, "cluster": ""}, ',
    "german": '"größere Flächen",'.encode(),
    "chinese": '"左肾和右肾",'.encode(),
}
"""Entries that large files of users hold, many times."""


@pytest.mark.parametrize("entry", LISTS.values(), ids=LISTS)
def test_a_large_json_is_read_within_the_bound(entry, tmp_path):
    path = tmp_path / "a.json"
    count = 2**20 // len(entry)
    path.write_bytes(b"[" + entry * count + b"0]")
    tracemalloc.start()
    value = json_files.read_json(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert value == json.loads(path.read_bytes())
    assert peak < TIMES * path.stat().st_size


ASSAYS = {
    "numbers for names": ("class_names", "1,"),
    "short numbers for names": ("notes", "-9,"),
    "notes": ("notes", '"abcdefghij",'),
    "counts": ("cluster_counts", "1,"),
    "counts of fractions": ("cluster_counts", "0.25,"),
    "groups": (
        "groups",
        '{"class_name":"","value_name":"","common":true,"images":0,"correct":0,"flip":0,"miss":0},',
    ),
}
"""A field of an assay's record, and an entry that it holds many times."""


@pytest.mark.parametrize(("field", "entry"), ASSAYS.values(), ids=ASSAYS)
def test_a_large_record_of_an_assay_is_refused_or_read_within_the_bound(field, entry, tmp_path):
    path = tmp_path / "assay.json"
    values = to_plain(ASSAY)
    whole = json.dumps({**values, field: "LONG"})
    count = 2**19 // len(entry)
    path.write_text(whole.replace('"LONG"', f"[{entry * count}{entry[:-1]}]"))
    tracemalloc.start()
    try:
        found = read_assay(tmp_path)
    except DamagedError as error:
        assert "assay.json" in str(error)
    else:
        assert len(getattr(found, field)) == count + 1
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < TIMES * path.stat().st_size


def monitor_of(scores):
    return dataclasses.replace(FITTED, scores=np.sort(scores))


MONITORS = {
    "short scores": np.full(2**18, 0.1),
    "scores of two digits": np.arange(2**18) % 90 / 100,
    "long scores": np.random.default_rng(0).random(2**15),
}


@pytest.mark.parametrize("scores", MONITORS.values(), ids=MONITORS)
def test_a_large_monitor_watches_within_the_bound(scores, tmp_path):
    path = tmp_path / "monitor.json"
    save_monitor(monitor_of(scores), path)
    tracemalloc.start()
    test = DriftTest(load_monitor(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not test.alarm
    assert peak < TIMES * path.stat().st_size


def test_a_monitor_of_scores_that_are_no_floats_is_refused(tmp_path):
    path = tmp_path / "monitor.json"
    save_monitor(FITTED, path)
    values = json.loads(path.read_text())
    del values["digest"]
    values["scores"] = [1, 2]
    path.write_text(json.dumps({**values, "digest": sha256(json.dumps(values, sort_keys=True))}))
    with pytest.raises(DamagedError, match=r"monitor\.json: .*scores: expected a list of numbers"):
        load_monitor(path)


def history_of(path, line):
    with History(path, FITTED):
        pass
    count = 2**20 // len(line)
    path.write_text(path.read_text() + f"{line}\n" * count)


@pytest.mark.parametrize("line", ['{"score":1}', '{"score":-9.5,"cluster":"ab"}', '{"score":null,"cluster":"\\u0101"}'])
def test_a_long_history_is_read_within_the_bound(line, tmp_path):
    path = tmp_path / "history.jsonl"
    history_of(path, line)
    tracemalloc.start()
    history = History(path, FITTED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(1 for _ in history.seen()) == 2**20 // len(line)
    assert peak < TIMES * path.stat().st_size


def test_a_history_whose_clusters_are_objects_is_refused(tmp_path):
    path = tmp_path / "history.jsonl"
    history_of(path, '{"score":1,"cluster":{}}')
    with pytest.raises(DamagedError, match="expected a history"):
        History(path, FITTED)


ENTRIES = {
    "starts": ("sessions", {}, "sessions: expected a list of objects"),
    "a start": ("sessions", [None], "sessions: expected a list of objects"),
    "pools": ("pools", [], "pools: expected an object of texts"),
    "a pool without a name": ("pools", {"drawn 16": ""}, "pools: expected an object of texts"),
    "a library": ("convolutions", {"000": None}, "convolutions: expected an object of texts"),
}
"""An entry of config.json, what stands there instead, and the sentence."""


@pytest.mark.parametrize(("name", "value", "sentence"), ENTRIES.values(), ids=ENTRIES)
def test_a_record_with_which_no_run_goes_on_is_refused(name, value, sentence, tmp_path):
    shutil.copytree(RECORDED, tmp_path / "run")
    path = tmp_path / "run/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ConfigError, match=rf"config\.json, which is damaged .*{sentence}"):
        go_on(tmp_path / "run")


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


ESTIMATE = FlipEstimate(0.4, np.array([0.3, 0.5]), 0.2, math.nan)
SCHEDULE = Schedule(Design(5, 4, 12), (NetworkSetting(0.5, "ce"),), (NetworkSetting(0.0, "ce"),), 0.25, 300.0)
ASSAY = Assay(
    attribute="scanner",
    source="photos",
    class_names=("cat", "größer"),
    value_names=("a", "b"),
    images=40,
    clusters=20,
    cluster_name="patient",
    cluster_counts=np.array([[9, 1], [2, 8]]),
    size=32,
    association=Association(np.array([[18, 2], [4, 16]]), ((0,), (1,)), np.array([0.9, 0.8]), 0.7, 0.01, "clusters"),
    cues=(CueAuroc("warmth", AurocInterval(0.6, 0.5, 0.7), AurocInterval(0.9, 0.8, 1.0)),),
    verdict=AssayVerdict("used", "Because.", "", 0.02),
    contrast=Contrast(ESTIMATE, 0.01, 0.1, "clusters"),
    learnt=Learnt(0.9, 0.75),
    groups=(GroupRow("cat", "a", True, 18, 0.8, 0.1, 0.1), GroupRow("cat", "b", False, 2, 0.2, 0.7, 0.1)),
    levels=(Level("all", 1.0, ESTIMATE, ESTIMATE, 0.6),),
    methods=(),
    counter_examples=CounterExamples(0.1, 2.0, np.array([[0, 3], [4, 0]]), "images", 0.5),
    schedule=SCHEDULE,
    margin=0.05,
    notes=("A note.",),
    seconds=12.5,
    folder="runs/assay",
    digest="0" * 32,
    software=("flipjax 0", "jax 0"),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a file of each kind, as flipjax writes it."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(RECORDED, folder / "run")
    go_on(folder / "run")
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
        compare_audits(folder / "audit", folder / "audit", out=folder / "comparison")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        pool.load_pool(PoolSpec(size=16), "key", listing)
    (folder / "assay").mkdir()
    (folder / "assay/assay.json").write_text(json.dumps(to_plain(ASSAY), indent=1))
    store_schedule(SCHEDULE, "asked", folder / "assay")
    (folder / "lock").mkdir()
    (folder / f"lock/.lock{lock.OWNER}").write_text(json.dumps(dataclasses.asdict(lock.this_process())))
    (folder / "report").mkdir()
    for name in ("index.html", "summary.md", "summary.csv"):
        (folder / "report" / name).touch()
    (folder / "report" / page.MADE_OF).write_text(json.dumps({"source": "source", "text": "The text."}))
    (folder / "images.csv").write_text("name,flip_risk,flip\na,0.5,0.25\ngrößer,,\n", encoding="utf-8")
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


def tables_of_run(folder):
    run = load(folder)
    return {"members": np.array(run.members.to_csv()), "history": np.array(run.history.to_csv())}


def table_of_csv(path):
    return np.array(read_csv(path).to_csv())


@functools.cache
def small_program():
    (program,) = plan(configure("smoke"))
    return program


def go_on(folder):
    """What a command that continues a run reads and writes of its record."""
    config = json.loads((RECORDED / "config.json").read_text())["config"]
    mine = lock.Lock(folder)
    run = workdir.Workdir(mine)
    try:
        run.open(config, fresh=False, force=False)
        run.describe(config, {"name": "config"}, {"jax": "0.10.2", "device": "2 x cpu (cpu)"}, strict=False)
        assert run.record_library(small_program(), "xla")
        run.record_pool(small_program(), dataclasses.replace(listing()[0], content="0" * 32))
        run.add_session(1.5)
    finally:
        mine.release()


def failed_comparison(folder):
    compare.mark_failed(folder, "an error")


def owner_of_lock(folder):
    return str(lock._owner_of(folder / ".lock"))


def schedule_of_assay(folder):
    schedule = read_schedule(folder, SCHEDULE.design.network, "asked")
    assert schedule is None or isinstance(schedule, Schedule)


def text_of_report(folder):
    text = page._existing_text(folder, "source")
    assert text is None or isinstance(text, str)


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
    "run to continue": Kind("run", "config.json", go_on, exact=False),
    "record of tables": Kind("run", "config.json", tables_of_run, exact=False),
    "tables": Kind("run", "cells/000/results.npz", tables_of_run),
    "results.csv": Kind("run", "results.csv", lambda path: table_of_csv(path / "results.csv")),
    "digest of results.csv": Kind("run", "results.sha256", lambda path: table_of_csv(path / "results.csv")),
    "scores.csv": Kind("run", "scores.csv", lambda path: table_of_csv(path / "scores.csv"), exact=False),
    "images of an audit": Kind("images.csv", "", read_table, exact=False),
    "lock": Kind("lock", f".lock{lock.OWNER}", owner_of_lock, exact=False),
    "report": Kind("report", page.MADE_OF, text_of_report, exact=False),
    "assay": Kind("assay", "assay.json", read_assay, exact=False),
    "schedule": Kind("assay", f"schedule_{SCHEDULE.design.network}.json", schedule_of_assay, exact=False),
    "comparison": Kind("comparison", "compare.json", failed_comparison, exact=False),
    "monitor": Kind("monitor.json", "", lambda path: {"scores": load_monitor(path).scores}),
    "history": Kind("history.jsonl", "", lambda path: list(History(path, FITTED).seen()), exact=False),
    "checkpoint": Kind("checkpoints", f"1/{CHECKPOINT}", read_checkpoint, exact=False),
    "arrays of a checkpoint": Kind("checkpoints", "1/arrays/0/manifest.ocdbt", read_checkpoint),
    "audit": Kind("audit", "decomposition.npz", rates_of_audit),
    "summary of an audit": Kind("audit", "summary.json", rates_of_audit, exact=False),
    "record of a pool": Kind("flipjax/pools/key", "pool.json", read_stored_pool),
    "images of a pool": Kind("flipjax/pools/key", "images.npy", read_stored_pool),
}


def test_a_damaged_file_of_images_has_its_token_or_none(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="it is no dependency")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "images.parquet"
    table = pyarrow.table({"image": np.arange(8, dtype=np.int8), "flip": [0.5] * 8})
    parquet.write_table(table.replace_schema_metadata({b"token": b"abc"}), path)
    whole = path.read_bytes()
    tokens = set()
    # Types of integers that do not exist are an error of another kind than damage; they stand near the end.
    for place in range(len(whole) - 100, len(whole)):
        for bit in range(8):
            path.write_bytes(damaged(whole, "bit", place, bit))
            tokens.add(run_data._stored_token(path))
    assert None in tokens and b"abc" in tokens


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


OF_JSON = sorted(name for name, kind in KINDS.items() if f"{kind.folder}{kind.name}".endswith((".json", lock.OWNER)))


@settings(max_examples=2 * FUZZ, deadline=None)
@given(st.sampled_from(OF_JSON), REPLACED)
def test_a_damaged_file_of_another_value_is_one_line_or_read(written, tmp_path_factory, name, value):
    kind = KINDS[name]
    target = tmp_path_factory.mktemp("damaged")
    copy, path = copy_of(kind, written, target)
    path.write_text(with_another_value(path.read_text(), *value))
    try:
        check_read(dataclasses.replace(kind, exact=False), copy, None)
    finally:
        shutil.rmtree(target, ignore_errors=True)
