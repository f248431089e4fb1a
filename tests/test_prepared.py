"""Pools on disk, and the jobs that make them."""

import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest

from flipjax import plan
from flipjax.config import ConfigError, Experiment, PoolSpec
from flipjax.data import prepared, preparing
from flipjax.data.pool import Catalog
from flipjax.data.prepare import BadFileError
from flipjax.data.prepared import Blocks, check_memory, load, write_pool
from flipjax.data.preparing import PreparingError, Task, check_disk, claim, make_pool, name_shards, run
from flipjax.methods import Knobs
from flipjax.sweep import dry_run

SIZE, OBJECTS, SCENES = 16, 5, 3


@pytest.fixture
def pool():
    """Arrays and a catalog that fit together."""
    rng = np.random.default_rng(3)
    shapes = {"images": (OBJECTS, SIZE, SIZE, 3), "masks": (OBJECTS, SIZE, SIZE), "labels": (OBJECTS,)}
    shapes["scenes"] = (SCENES, SIZE, SIZE, 3)
    arrays = {name: rng.integers(0, 256, shape).astype(np.uint8) for name, shape in shapes.items()}
    catalog = Catalog(
        kind="composite",
        class_names=("landbird", "waterbird"),
        scene_names=("land", "water"),
        object_class=np.array([0, 1, 0, 1, 0], np.int32),
        object_scene=np.full(OBJECTS, -1, np.int32),
        scene_kind=np.array([0, 1, 1], np.int32),
        object_names=tuple("abcde"),
        scene_photo_names=tuple("xyz"),
        object_split=np.array([0, 1, 2, -1, -1], np.int32),
        scene_split=np.full(SCENES, -1, np.int32),
    )
    return arrays, catalog


def spec(folder, **options):
    return PoolSpec(**({"name": "waterbirds_seg", "root": str(folder), "size": SIZE} | options))


FACTS = {"name": "waterbirds_seg"}


def test_what_is_written_is_loaded(pool, tmp_path):
    arrays, catalog = pool
    write_pool(tmp_path, arrays, catalog, FACTS)
    found, described = load(spec(tmp_path))
    assert found.kind == "composite"
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(found, name), array)
    for field in dataclasses.fields(catalog):
        np.testing.assert_array_equal(getattr(described, field.name), getattr(catalog, field.name))
        assert type(getattr(described, field.name)) is type(getattr(catalog, field.name))


def test_blocks_give_the_same_pool_and_a_new_pool_replaces_the_old_one(pool, tmp_path):
    arrays, catalog = pool
    write_pool(tmp_path, arrays, catalog, FACTS)
    first = prepared.read_manifest(tmp_path)["content"]
    blocks = {
        name: Blocks(array.shape, lambda array=array: iter((array[:2], array[2:]))) for name, array in arrays.items()
    }
    write_pool(tmp_path, blocks, catalog, FACTS)
    assert prepared.read_manifest(tmp_path)["content"] == first
    write_pool(tmp_path, arrays | {"labels": 1 + arrays["labels"]}, catalog, FACTS)
    second = prepared.read_manifest(tmp_path)["content"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([second, "pool.json"])


def test_a_pool_is_whole_or_absent(pool, tmp_path):
    arrays, catalog = pool

    def stops():
        yield arrays["scenes"][:1]
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_pool(tmp_path / "a", arrays | {"scenes": Blocks(arrays["scenes"].shape, stops)}, catalog, FACTS)
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(
        ConfigError, match=r"no prepared pool in .*; prepare it with: .* waterbirds_seg --cub_dir .* 16"
    ):
        load(spec(tmp_path / "a"))
    with pytest.raises(ValueError, match="expected 3 rows, found 1"):
        write_pool(
            tmp_path / "a",
            arrays | {"scenes": Blocks((3, SIZE, SIZE, 3), lambda: iter([arrays["scenes"][:1]]))},
            catalog,
            FACTS,
        )
    with pytest.raises(ValueError, match="expected the shapes"):
        write_pool(tmp_path / "a", arrays | {"labels": arrays["labels"][:2]}, catalog, FACTS)
    assert list((tmp_path / "a").iterdir()) == []


def test_a_truncated_array_and_another_size_are_refused(pool, tmp_path):
    arrays, catalog = pool
    write_pool(tmp_path, arrays, catalog, FACTS)
    with pytest.raises(ConfigError, match=r"config\.pool\.size: .* holds waterbirds_seg at size 16, found .* size 32"):
        load(spec(tmp_path, size=32))
    with pytest.raises(ConfigError, match=r"config\.pool\.name: .* holds waterbirds_seg"):
        load(spec(tmp_path, name="coco_cd"))
    path = tmp_path / prepared.read_manifest(tmp_path)["content"] / "scenes.npy"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ConfigError, match=r"is damaged .* prepare it with"):
        load(spec(tmp_path))
    assert prepared.read_manifest(tmp_path) is None
    write_pool(tmp_path, arrays, catalog, FACTS)
    assert load(spec(tmp_path))[0].scenes.shape == (SCENES, SIZE, SIZE, 3)
    (tmp_path / "pool.json").write_text(json.dumps({"content": "0"}))
    with pytest.raises(ConfigError, match="no prepared pool"):
        load(spec(tmp_path))


def test_nothing_but_a_pools_own_files_is_deleted(pool, tmp_path):
    """Folders that only look like a pool's keep what is in them, and no path in pool.json leads anywhere."""
    arrays, catalog = pool
    out = tmp_path / "out"
    mine = [out / ".notes.tmp", out / ".123.tmp", out / ("0" * 32), out / "shards", tmp_path / "elsewhere"]
    for folder in mine:
        folder.mkdir(parents=True)
        (folder / "thesis.txt").write_text("mine")
    for content in (str(tmp_path / "elsewhere"), "../elsewhere", "..", "", "shards", 7):
        shapes = {name: [0, SIZE] for name in prepared.ARRAYS}
        (out / "pool.json").write_text(json.dumps({"content": content, "shapes": shapes, "facts": {}}))
        assert prepared.stored(out) is prepared.read_manifest(out) is None
        write_pool(out, arrays, catalog, FACTS)
    assert all((folder / "thesis.txt").read_text() == "mine" for folder in mine)
    assert load(spec(out))[1].object_names == catalog.object_names


def test_a_folder_with_other_files_is_refused(pool, tmp_path):
    arrays, catalog = pool
    assert claim(tmp_path / "new") == tmp_path / "new"
    write_pool(tmp_path, arrays, catalog, FACTS)
    for name in (".12.tmp", "f" * 32, "shards"):
        (tmp_path / name).mkdir()
    for name in (".pool.json.12.tmp", f"shards/{'0' * 32}.npz", f"shards/.{'0' * 32}.npz.12.tmp"):
        (tmp_path / name).write_text("")
    assert claim(tmp_path) == tmp_path
    for name in ("thesis.txt", "shards/thesis.npz", ".a.tmp", "F" * 32):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ConfigError, match=rf"--out: expected a new or empty folder.* in {tmp_path}: .*/{name}$"):
            claim(tmp_path)
        (tmp_path / name).unlink()
    for text in ("[]", "mine"):
        (tmp_path / "pool.json").write_text(text)
        with pytest.raises(ConfigError, match=r"pool\.json$"):
            claim(tmp_path)


def test_a_pool_larger_than_memory_is_refused_before_it_is_read(pool, tmp_path, monkeypatch):
    arrays, catalog = pool
    write_pool(tmp_path, arrays, catalog, FACTS)
    monkeypatch.setattr(prepared, "memory_limit", lambda: (1000, "the device"))
    monkeypatch.setattr(prepared, "_open_array", None)
    with pytest.raises(
        ConfigError, match=r"0 MB .5 objects or photos, 3 scenes., and the device has 0 MB; no size fits"
    ):
        load(spec(tmp_path))


def test_memory_is_that_of_the_devices():
    """The tests have two CPU devices, which share the machine's memory."""
    limit, owner = prepared.memory_limit()
    assert owner == "each of 2 CPU devices" and 0 < 2 * limit < 2**50


def test_the_largest_size_that_fits():
    """1,000 photos of 64 x 64 take 4 bytes a pixel: 16.4 MB; in 10 MB fits 48 (9.2 MB) and not 56 (12.5 MB)."""
    shapes = {"images": [1000, 64, 64, 3], "masks": [1000, 64, 64], "labels": [1000], "scenes": [0, 64, 64, 3]}
    with pytest.raises(ConfigError, match=r"has 16 MB .* has 10 MB; the largest size that fits is 48"):
        check_memory(shapes, (10_000_000, "the device"))
    check_memory(shapes, (17_000_000, "the device"))
    check_memory(shapes, None)


def test_a_plan_knows_the_size_of_a_prepared_pool(pool, tmp_path):
    def said(**options):
        experiment = Experiment(pool=spec(tmp_path, **options))
        program = plan.Program("000", experiment, (plan.Setting("m000", {}, Knobs()),), (0.5,))
        return dry_run.pool_bytes(program), dry_run.describe(program, parameters=1, working=1)[3]

    absent = (None, "  memory: pool not counted (none is prepared yet);")
    assert (said()[0], said()[1][: len(absent[1])]) == absent
    arrays, catalog = pool
    write_pool(tmp_path, arrays, catalog, FACTS)
    size, text = said()
    assert size == sum(array.nbytes for array in arrays.values()) and "not counted" not in text
    assert said(size=24)[0] is None and said(name="coco_cd")[0] is None
    assert "pool not counted (read at the start)" in said(name="folder")[1]


def make_jobs(folder, count):
    for index in range(count):
        (folder / f"{index:03d}.txt").write_text(str(index))
    return [f"{index:03d}.txt" for index in range(count)]


class Work:
    """Reads a number; counts its calls."""

    def __init__(self, folder):
        self.folder, self.calls = folder, 0

    def __call__(self, job):
        self.calls += 1
        text = (self.folder / job).read_text()
        if not text.isdigit():
            raise BadFileError(f"{job}: no number: {text}")
        return {"value": np.uint8(int(text)), "pair": np.full(2, int(text), np.uint8)}


def run_jobs(folder, jobs, work, key="1"):
    stream = io.StringIO()
    task = Task(jobs, work, "numbers")
    (paths,) = name_shards([task], out=folder / "shards", files=lambda job: [folder / job], key=key)
    return run(task, paths, stream=stream), stream.getvalue()


def test_jobs_are_done_once_in_order(tmp_path):
    jobs, work = make_jobs(tmp_path, 150), Work(tmp_path)
    shards, text = run_jobs(tmp_path, jobs, work)
    np.testing.assert_array_equal(shards.column("value"), np.arange(150))
    blocks = shards.blocks("pair", keep=np.arange(150) % 2 == 1)
    assert blocks.shape == (75, 2)
    np.testing.assert_array_equal(np.concatenate(list(blocks.read()))[:, 0], np.arange(1, 150, 2))
    assert "numbers: 150 of 150" in text and "0:00 left" in text
    assert work.calls == 150
    _, text = run_jobs(tmp_path, jobs, work)
    assert work.calls == 150 and "150 of 150 were made by an earlier run" in text
    (tmp_path / "003.txt").write_text("33")
    run_jobs(tmp_path, jobs, work)
    assert work.calls == 150 + preparing.SHARD
    run_jobs(tmp_path, jobs, work, key="2")
    assert work.calls == 300 + preparing.SHARD
    (tmp_path / "shards/thesis.npz").write_text("mine")
    shards.remove()
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["thesis.npz"]


def test_bad_files_are_counted_and_the_others_kept(tmp_path):
    jobs, work = make_jobs(tmp_path, 150), Work(tmp_path)
    for index in range(70, 82):
        (tmp_path / f"{index:03d}.txt").write_text("x")
    with pytest.raises(PreparingError, match=r"12 of 150 numbers cannot be used:\n  070.txt: no number: x\n") as raised:
        run_jobs(tmp_path, jobs, work)
    assert str(raised.value).count("\n") == 11 and "... and 2 more" in str(raised.value)
    assert len(list((tmp_path / "shards").iterdir())) == 2
    for index in range(70, 82):
        (tmp_path / f"{index:03d}.txt").write_text(str(index))
    shards, _ = run_jobs(tmp_path, jobs, work)
    assert work.calls == 150 + preparing.SHARD
    np.testing.assert_array_equal(shards.column("value"), np.arange(150))


def test_missing_files_are_said_before_any_work(tmp_path):
    jobs, work = make_jobs(tmp_path, 20), Work(tmp_path)
    for index in range(12):
        (tmp_path / f"{index:03d}.txt").unlink()
    with pytest.raises(PreparingError, match=r"12 files are missing for 20 images:\n  .*000.txt: No such file"):
        run_jobs(tmp_path, jobs, work)
    assert work.calls == 0


def test_an_unwritable_place_is_an_error(tmp_path):
    jobs, work = make_jobs(tmp_path, 3), Work(tmp_path)
    (tmp_path / "shards").write_text("a file")
    with pytest.raises(OSError, match="shards"):
        run_jobs(tmp_path, jobs, work)
    assert "2 MB of disk" in check_disk(tmp_path / "deep/er", 2_000_000, what="the pool")
    with pytest.raises(OSError, match="not enough disk: the pool: up to 1,000,000,000,000 MB"):
        check_disk(tmp_path, 10**18, what="the pool")


def make_numbers(folder, jobs, *, key="1", holds="numbers"):
    """Makes a pool of images that show a number each."""

    def work(job):
        value = Work(folder)(job)["value"]
        return {"image": np.full((SIZE, SIZE, 3), value), "mask": np.full((SIZE, SIZE), value), "kept": value != 1}

    def make_catalog(keep):
        names = tuple(job for job, kept in zip(jobs, keep, strict=True) if kept)
        free, none = np.full(len(names), -1, np.int32), np.zeros(0, np.int32)
        return Catalog(
            kind="photo",
            class_names=("cat", "dog"),
            scene_names=("indoor", "outdoor"),
            object_class=np.zeros(len(names), np.int32),
            object_scene=np.zeros(len(names), np.int32),
            scene_kind=none,
            object_names=names,
            scene_photo_names=(),
            object_split=free,
            scene_split=none,
        )

    make_pool(
        folder / "pool",
        Task(jobs, work, "numbers"),
        Task((), work, "scenes"),
        files=lambda job: [folder / job],
        key=key,
        size=SIZE,
        make_catalog=make_catalog,
        facts={"name": "coco_cd", "holds": holds},
    )


def test_a_pool_is_made_once_and_what_it_replaces_is_said(tmp_path, capsys):
    jobs = make_jobs(tmp_path, 6)
    make_numbers(tmp_path, jobs)
    said = capsys.readouterr()
    assert "numbers (5 images, 0 scenes at size 16): cat in indoor 5, cat in outdoor 0" in said.out
    assert "1 numbers left out, nothing of them is left at size 16: 001.txt" in said.err
    found, catalog = load(spec(tmp_path / "pool", name="coco_cd"))
    assert catalog.object_names == ("000.txt", "002.txt", "003.txt", "004.txt", "005.txt")
    assert np.asarray(found.images[:, 0, 0, 0]).tolist() == [0, 2, 3, 4, 5] and found.labels.tolist() == [1] * 5
    first = prepared.identify(spec(tmp_path / "pool", name="coco_cd"))
    make_numbers(tmp_path, jobs)
    assert "nothing to do" in capsys.readouterr().out
    make_numbers(tmp_path, jobs[:4], key="2", holds="few numbers")
    assert "pool: holds numbers (5 images, 0 scenes at size 16), which is replaced" in capsys.readouterr().err
    second = prepared.identify(spec(tmp_path / "pool", name="coco_cd"))
    assert second["holds"] == "few numbers (3 images, 0 scenes at size 16)" and first["content"] != second["content"]
    assert sorted(path.name for path in (tmp_path / "pool").iterdir()) == sorted([second["content"], "pool.json"])
    assert prepared.identify(spec(tmp_path)) == {} == prepared.identify(spec(tmp_path / "pool", name="synthetic"))


def test_a_full_disk_is_told_before_and_shards_that_are_there_count(tmp_path, monkeypatch, capsys):
    jobs = make_jobs(tmp_path, 2 * preparing.SHARD)
    (tmp_path / jobs[-1]).write_text("x")
    with pytest.raises(PreparingError, match="1 of 128 numbers cannot be used"):
        make_numbers(tmp_path, jobs)
    (shard,) = (tmp_path / "pool/shards").iterdir()
    (tmp_path / jobs[-1]).write_text("127")
    need = 2 * len(jobs) * 4 * SIZE**2 - shard.stat().st_size
    for free in (need - 1, need):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(free, 0, free))
        if free < need:
            with pytest.raises(OSError, match="not enough disk: 128 images, 0 scenes at size 16"):
                make_numbers(tmp_path, jobs)
    make_numbers(tmp_path, jobs)
    assert "numbers: 64 of 128 were made by an earlier run" in capsys.readouterr().err
    assert len(load(spec(tmp_path / "pool", name="coco_cd"))[1].object_names) == 127
