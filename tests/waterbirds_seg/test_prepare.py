"""The data set of Waterbirds-Seg from the command to pools, and what it says of damage."""

import os
import re
import resource
import signal

import numpy as np
import pytest
from folder.pixels import place
from PIL import Image

from flipjax import files
from flipjax.config import ConfigError
from flipjax.data import images
from flipjax.data.__main__ import main
from flipjax.data.pool import gather
from flipjax.data.waterbirds_seg import manifest
from flipjax.data.waterbirds_seg import waterbirds_seg_dataset_builder as pixels
from flipjax.data.waterbirds_seg.manifest import bird_files, read_birds, scene_file
from flipjax.files import adding_folder
from waterbirds_seg.tree import CUB, PLACES, SIZE, TREE, arguments, open_pool, prepare


def test_cutouts_serve_sweeps_of_any_size(tmp_path, capsys):
    """Photos keep their size in the data set; a pool holds cut-outs and scenes as if they had never been in it."""
    assert prepare(TREE, tmp_path) == 0
    written = capsys.readouterr()
    assert "birds: 20 of 20" in written.err and "birds 20, scenes 20" in written.out
    pool, catalog = open_pool(tmp_path)
    assert pool.kind == "composite" and pool.images.shape == (20, SIZE, SIZE, 3) and pool.scenes.shape[0] == 20
    names = [bird.name for bird in read_birds(TREE / CUB)]
    order = [names.index(name) for name in catalog.object_names]
    assert catalog.object_class.tolist() == [[1, 1, 0, 0][i % 4] for i in order]
    assert catalog.object_split.tolist() == [2 if i % 5 > 2 else -1 for i in order]
    assert np.bincount(catalog.scene_kind).tolist() == [10, 10] and (catalog.scene_split == -1).all()
    assert (np.asarray(pool.images) <= np.asarray(pool.masks)[..., None]).all()
    for index in range(20):
        bird, alpha = pixels.read_bird(*bird_files(TREE / CUB, catalog.object_names[index]))
        image, alpha, *_ = images.cut_out(bird, alpha, name="it", size=SIZE)
        np.testing.assert_array_equal(pool.images[index], image)
        np.testing.assert_array_equal(pool.masks[index], alpha)
        assert pool.aspects[index] == np.float32(bird.width / bird.height)
    scene = images.read_image(scene_file(TREE / PLACES, catalog.scene_photo_names[12]))
    np.testing.assert_array_equal(pool.scenes[12], images.read_scene(scene, name="it", size=SIZE).image)
    assert open_pool(tmp_path, size=24)[0].images.shape[1] == 24
    assert prepare(TREE, tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_options_have_data_sets_of_their_own(tmp_path):
    assert prepare(TREE, tmp_path, "--size", SIZE, "--fix_labels", "--scenes", 4) == 0
    pool, catalog = open_pool(tmp_path)  # The only one that is there.
    birds = [images.read_image(bird_files(TREE / CUB, name)[0]) for name in catalog.object_names]
    np.testing.assert_allclose(pool.aspects, [bird.width / bird.height for bird in birds])
    assert catalog.source.endswith("cutouts_scenes4_16_fixed/1.0.0")
    assert catalog.object_class.sum() == 5 and pool.scenes.shape[0] == 8
    assert prepare(TREE, tmp_path, "--scenes", 8) == 0
    with pytest.raises(ConfigError, match=r"root: no data set .*/cutouts' .*cutouts_scenes4_16_fixed:1.0.0.*prepare"):
        open_pool(tmp_path)
    assert open_pool(tmp_path, "cutouts_scenes8")[0].scenes.shape[0] == 16


def test_the_two_kinds_of_pool_show_the_same_image(tree, tmp_path):
    """Birds and scenes of SIZE x SIZE need no resizing: a row of a manifest is a pair of indices, within a level."""
    for path in [*tree.rglob("*.jpg"), *tree.rglob("*.png")]:
        Image.open(path).resize((SIZE, SIZE)).save(path)
    csv_path = tmp_path / "own.csv"
    assert main(arguments(tree, "--rho", 0.75, "--out", csv_path, command="manifest")) == 0
    assert prepare(tree, tmp_path / "photos", "--manifest", csv_path) == 0
    assert prepare(tree, tmp_path / "parts", "--split_by", csv_path) == 0
    photos, shown = open_pool(tmp_path / "photos")
    parts, catalog = open_pool(tmp_path / "parts")
    rows = sorted(manifest.read_manifest(csv_path), key=lambda row: row.img_filename)
    assert photos.kind == "photo" and shown.object_names == tuple(row.img_filename for row in rows)
    assert shown.object_scene.tolist() == [row.place for row in rows]
    assert shown.object_split.tolist() == catalog.object_split.tolist() == [row.split for row in rows]
    index = [catalog.scene_photo_names.index(row.place_filename) for row in rows]
    assert catalog.scene_split[index].tolist() == [row.split for row in rows]
    composites, masks = gather(parts, np.stack([np.arange(len(rows)), index], axis=1))
    np.testing.assert_allclose(255 * composites, photos.images, atol=1.01)
    np.testing.assert_array_equal(masks, photos.masks)


def test_a_bird_of_which_nothing_is_left_is_left_out(tree, tmp_path, capsys):
    name = read_birds(tree / CUB)[5].name
    place(tree, {files_of(tree, 5)[1]: np.zeros((19, 22), np.uint8)})
    assert prepare(tree, tmp_path) == 0
    assert f"1 birds left out, nothing of them is left: {name}" in capsys.readouterr().err
    pool, catalog = open_pool(tmp_path)
    assert len(catalog.object_names) == len(pool.images) == 19 and name not in catalog.object_names


def files_of(tree, index=3):
    """The photo and the segmentation of a bird."""
    return bird_files(tree / CUB, read_birds(tree / CUB)[index].name)


def test_a_bad_file_is_named_and_leaves_nothing(tree, tmp_path, capsys):
    def assert_named(path, *options):
        assert prepare(tree, tmp_path / "out", *options) == 1
        text = capsys.readouterr().err
        assert str(path) in text and "Traceback" not in text and not list((tmp_path / "out").iterdir())

    photo, segmentation = files_of(tree)
    scene = tree / PLACES / "b/bamboo_forest/00000000.jpg"
    wrong = {photo: photo.read_bytes()[:100], scene: scene.read_bytes()[:100], segmentation: None}
    for path, content in (*wrong.items(), (segmentation, np.full((9, 9), 255, np.uint8))):
        whole = path.read_bytes()
        place(tree, {path: content})
        assert_named(path)
        path.write_bytes(whole)
    # Enlarged to the width of its bird this scene would have gigapixels.
    tall, large, whole = np.zeros((30_000, 1, 3), np.uint8), np.zeros((400, 400, 3), np.uint8), np.full((400, 400), 255)
    place(tree, {scene: tall, photo: large, segmentation: whole.astype(np.uint8)})
    row = f"4,{photo.parent.name}/{photo.name},0,0,0,0,/b/bamboo_forest/{scene.name}"
    (tree / "own.csv").write_text(f"{','.join(manifest.Row._fields)}\n{row}\n")
    assert_named(scene, "--manifest", tree / "own.csv")


def test_a_disk_that_cannot_be_written_to_is_one_line(tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert prepare(tree, tmp_path / "file/pool") == 1
    assert "Traceback" not in capsys.readouterr().err
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert prepare(tree, tmp_path / "pool") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "pool").iterdir())
    assert prepare(tree, tmp_path / "pool") == 0


def test_what_an_interrupted_or_killed_prepare_leaves_is_gone(tmp_path, capsys, monkeypatch):
    """A .DS_Store is no reason to refuse; SIGTERM says how to go on; of two at once the first is kept."""
    cutouts = tmp_path / "waterbirds_seg/cutouts"
    killed = cutouts / f".1.0.0.{files._machine()}.{2**22 + 1}.0.tmp"  # No process has such a number.
    killed.mkdir(parents=True)
    (tmp_path / "waterbirds_seg/.DS_Store").write_text("")
    signals, draw = iter([signal.SIGTERM]), pixels.draw_item

    def interrupted(item, size):
        for number in signals:
            os.kill(os.getpid(), number)
        return draw(item, size)

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "draw_item", interrupted)
        assert prepare(TREE, tmp_path) == 75
    assert "the same command starts anew" in capsys.readouterr().err and not cutouts.exists()
    killed.mkdir(parents=True)
    assert prepare(TREE, tmp_path) == 0
    assert [path.name for path in cutouts.iterdir()] == ["1.0.0"]
    with adding_folder(cutouts / "2.0.0") as folder:
        (folder / "slow").touch()
        (cutouts / "2.0.0/fast").mkdir(parents=True)
    assert [path.name for path in (cutouts / "2.0.0").iterdir()] == ["fast"] and len(list(cutouts.iterdir())) == 2


def test_missing_parts_of_the_archives(tree, tmp_path, capsys):
    lists = {f"{CUB}/{name}.txt": f"cub_dir: .*{name}.txt" for name in ("images", "train_test_split")}
    for absent, named in ({CUB: "cub_dir", PLACES: "places_dir"} | lists).items():
        (tree / absent).rename(tree / "away")
        assert prepare(tree, tmp_path / "pool") == 2
        assert re.search(named, capsys.readouterr().err) and not list((tmp_path / "pool").rglob("*"))
        (tree / "away").rename(tree / absent)
    assert prepare(tree, tmp_path / "pool", "--manifest", tree / "absent.csv") == 2
    assert "--manifest" in capsys.readouterr().err


def test_malformed_lists(tree):
    path = tree / CUB / "train_test_split.txt"
    names = (tree / CUB / "images.txt").read_text()
    whole = path.read_text()
    for parts in ("1 1\n2 0\n", whole.replace("1 1\n", "1 x\n", 1), "1 1\n1 0\n", "one 1\n"):
        path.write_text(parts)
        with pytest.raises(ConfigError, match="cub_dir"):
            read_birds(tree / CUB)
    path.write_text("1 1\n2 0\n")
    for text in ("1 a/b.jpg\n2 a/b.jpg\n", names):
        (tree / CUB / "images.txt").write_text(text)
        with pytest.raises(ConfigError, match="cub_dir"):
            read_birds(tree / CUB)
    with pytest.raises(ConfigError, match=r"places_dir: .*b/bamboo_forest/"):
        manifest.read_scenes(tree / CUB)
    os.truncate(path, 1 << 30)  # Holes alone, which take no room on the disk.
    for read, given in ((read_birds, tree / CUB), (manifest.read_manifest, path)):
        with pytest.raises(ConfigError, match="1,073,741,824 bytes"):
            read(given)
