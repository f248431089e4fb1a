"""Lists and manifests of Waterbirds-Seg, against the released ones."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax.config import ConfigError
from flipjax.data.__main__ import main
from flipjax.data.correlation import largest_n_train
from flipjax.data.pool import Listing, catalog_of
from flipjax.data.split import count_content, split_pool
from flipjax.data.waterbirds_seg import manifest
from flipjax.data.waterbirds_seg.manifest import Bird, class_of, read_birds, read_scenes, scene_file
from flipjax.data.waterbirds_seg.waterbirds_seg_dataset_builder import composites_of, parts_of
from waterbirds_seg.tree import CUB, PLACES, SHARED, TREE, arguments

RELEASED = {rho: SHARED / f"reference/metadata_corr{rho}.csv" for rho in (0.5, 0.95)}
FIXED = {"021.Eastern_Towhee", "088.Western_Meadowlark", "102.Western_Wood_Pewee"}
needs_released = pytest.mark.skipif(not RELEASED[0.5].is_file(), reason="../shared/reference is absent")


@needs_released
def test_classes_are_the_released_ones_and_the_fix_moves_three_species():
    for path in RELEASED.values():
        rows = manifest.read_manifest(path)
        assert [class_of(row.img_filename) for row in rows] == [row.y for row in rows]
        pairs = zip(rows, manifest.read_manifest(path, fix_labels=True), strict=True)
        moved = [(before, after) for before, after in pairs if before != after]
        assert len(moved) == 180 and sum(row.split == 2 for row, _ in moved) == 90
        assert sum(row.split == 2 and row.y == 1 for row in rows) == 1284
        assert {row.img_filename.split("/")[0] for row, _ in moved} == FIXED
        assert all((b.y, a.y, a.group_id) == (1, 0, b.place) for b, a in moved)


@pytest.fixture(scope="module")
def released_lists():
    """All birds and scenes of the released manifests, as archives would list them."""
    birds, scenes = {}, {}
    for path in RELEASED.values():
        for row in manifest.read_manifest(path):
            part = 2 if row.split == 2 else -1
            birds[row.img_filename] = Bird(row.img_id, row.img_filename, class_of(row.img_filename), part)
            scenes[row.place_filename] = row.place
    return [birds[name] for name in sorted(birds)], sorted(scenes.items())


@needs_released
@pytest.mark.parametrize("rho", [0.5, 0.95])
def test_own_manifests_have_the_released_counts(released_lists, rho):
    own = manifest.count_groups(manifest.make_manifest(*released_lists, rho=rho, seed=0))
    assert own == manifest.count_groups(manifest.read_manifest(RELEASED[rho]))
    assert own["train"] == {0.5: [615] * 4, 0.95: [1167, 62, 62, 1167]}[rho]


@needs_released
def test_released_manifests_make_pools_with_the_papers_parts(released_lists):
    """Photo pool: its parts and sizes; composite pool of both manifests: no scene and no bird in two parts."""

    def listed(kind, objects, scenes=()):
        names = {"class_names": manifest.CLASS_NAMES, "scene_names": manifest.SCENE_NAMES}
        return catalog_of(Listing(source="", kind=kind, objects=objects, scenes=scenes, **names))

    rows = manifest.read_manifest(RELEASED[0.95])
    composites = composites_of(rows, Path("cub"), Path("places"))
    catalog = listed("photo", [item for items in composites.values() for item in items])
    split = split_pool(catalog, n_val=296, n_test=2568, seed=0)
    counts = [[1167, 62, 62, 1167], [74] * 4, [642] * 4]
    assert [[*count_content(catalog, part).values()] for part in split] == counts
    assert largest_n_train(catalog, split, rhos=[0.95]) == 2456  # round(0.95 * 1229) is 1168, one more than there are.
    rows = [row for path in RELEASED.values() for row in manifest.read_manifest(path)]
    splits = parts_of(rows, Path("cub"), Path("places"))
    catalog = listed("composite", splits["birds"], splits["scenes"])
    assert (len(catalog.object_names), len(catalog.scene_photo_names)) == (6741, 5324)
    assert len(set(catalog.scene_photo_names)) == 5324
    waterbirds = Counter(catalog.object_split[catalog.object_class == 1].tolist())
    assert waterbirds == {0: 1230, 1: 149, 2: 1284}
    # A sweep over it tests on the paper's waterbirds, each in both scenes, and on as many of its landbirds.
    split = split_pool(catalog, n_val=592, n_test=5136, seed=0)
    assert (catalog.object_split[split.test.objects] == 2).all() and len(split.test.objects) == 2568
    assert (catalog.scene_split[split.train.scenes] == 0).all()


def test_draws_are_nested_and_show_every_photo_once():
    birds, scenes = read_birds(TREE / CUB), read_scenes(TREE / PLACES)
    low, high = (manifest.make_manifest(birds, scenes, rho=rho, seed=3) for rho in (0.5, 0.75))
    for rows in (low, high):
        for field in ("img_filename", "place_filename"):
            assert max(Counter(getattr(row, field) for row in rows).values()) == 1
        assert rows == sorted(rows, key=lambda row: (row.split, row.group_id))
    assert {row for row in low if row.split} == {row for row in high if row.split}
    before, after = ({row.img_filename: row.place_filename for row in rows if not row.split} for rows in (low, high))
    both = before.keys() & after.keys()
    usual = [row for row in low if not row.split and row.y == row.place]
    assert len(both) >= len(before) - 2 and all(before[r.img_filename] == after[r.img_filename] for r in usual)
    official = {bird.name for bird in birds if bird.part == 2}
    assert {row.img_filename for row in low if row.split == 2} <= official
    assert not {row.img_filename for row in low if row.split < 2} & official
    assert manifest.make_manifest(birds, scenes, rho=0.5, seed=4) != low


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 3000), st.integers(50, 100))
def test_image_counts_keep_to_rho(birds, percent):
    total, usual = manifest.images_per_class(birds, percent / 100)
    assert 0 <= usual <= total <= birds
    assert usual * 100 <= percent * total < (usual + 1) * 100
    assert birds - total <= 1 + 100 / percent


def test_the_manifest_command(tmp_path, capsys):
    out = tmp_path / "own.csv"
    for more in (("--rho", 0.3), ("--rho", 0.8, "--seed", -1)):
        assert main(arguments(TREE, *more, "--out", out, command="manifest")) == 2
        assert f"{more[-2]}: expected" in capsys.readouterr().err and not out.exists()
    assert main(arguments(TREE, "--rho", 0.75, "--out", out, command="manifest")) == 0
    assert "train  groups 0 1 2 3:" in capsys.readouterr().out
    rows = manifest.read_manifest(out)
    birds, scenes = read_birds(TREE / CUB), read_scenes(TREE / PLACES)
    assert rows == manifest.make_manifest(birds, scenes, rho=0.75, seed=0)
    assert out.read_text().splitlines()[0] == "img_id,img_filename,y,split,place,group_id,place_filename"
    assert all(scene_file(TREE / PLACES, row.place_filename).is_file() for row in rows)
    fixed = read_birds(TREE / CUB, fix_labels=True)
    assert Counter(bird.y for bird in fixed) == {0: 15, 1: 5}


def test_too_few_scenes_or_birds_are_counted():
    birds, scenes = read_birds(TREE / CUB), read_scenes(TREE / PLACES)
    few = [scene for scene in scenes if scene[1] == 0] + [scene for scene in scenes if scene[1] == 1][:2]
    with pytest.raises(ConfigError, match=r"places_dir: .*found land 10, water 2"):
        manifest.make_manifest(birds, few, rho=0.5, seed=0)
    with pytest.raises(ConfigError, match=r"cub_dir: .*found landbird 0"):
        manifest.make_manifest([b for b in birds if b.y or b.part != 2], scenes, rho=0.5, seed=0)


HEAD, ROW = ",".join(manifest.Row._fields), "1,a/b.jpg,0,0,1,1,/o/ocean/1.jpg"
BAD = {  # Lines below each other, and what is named.
    f"{HEAD}\n{ROW}\n1,a/c.jpg,2,0,1,1,/o/x.jpg": "line 3: y",
    f"{HEAD}\n{ROW}\n1,a/d.jpg,0,0,1,0,/o/x.jpg": "line 3: group_id",
    f"{HEAD}\n{ROW}\n{ROW}": "line 3: img_filename",
    f"{HEAD}\n{ROW}\n1,,0,0,1,1,/o/x.jpg": "line 3: img_filename",
    f"{HEAD}\n{ROW}\n1,a/e.j": "line 3: y",
    "img_id,y\n1,0\n": "img_filename",
    HEAD.replace("place,", "y,") + "\n": "y",
    HEAD: "rows",
    HEAD + "\n1," + "a" * (csv.field_size_limit() + 1): "field",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_manifests_are_refused(text, tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"manifest: .*{BAD[text]}"):
        manifest.read_manifest(path)
