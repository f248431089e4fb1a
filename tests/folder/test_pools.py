"""Pools of a user's folder: pixels, parts, names, and the store that finds them again."""

import jax
import numpy as np
from PIL import Image

from flipjax.data import store
from flipjax.data.folder import load_folder
from flipjax.data.images import read_image
from flipjax.groups import Groups
from flipjax.sweep.__main__ import main as sweep
from folder.pixels import BLUE, GREEN, RED, place, save, solid, square
from folder.tree import SIZE, composite, photos, problems_of, spec, write_metadata


def test_composite_folder(root):
    place(root, dict.fromkeys(("cutouts/.DS_Store", "cutouts/cat/.DS_Store", "scenes/land/Thumbs.db"), b""))
    pool, catalog = load_folder(spec(root))
    assert (pool.kind, catalog.class_names, catalog.scene_names) == ("composite", ("cat", "dog"), ("land", "water"))
    assert pool.images.shape == (12, SIZE, SIZE, 3) and pool.scenes.shape == (8, SIZE, SIZE, 3)
    assert catalog.object_names[6] == "cutouts/dog/00.jpg" and catalog.scene_photo_names[4] == "scenes/water/0.png"
    assert pool.labels.tolist() == [1] * 6 + [2] * 6 and (catalog.object_scene == -1).all()
    assert (np.asarray(pool.images) <= np.asarray(pool.masks)[..., None]).all()
    assert pool.scenes[:, 0, 0].tolist() == [list(GREEN)] * 4 + [list(BLUE)] * 4
    assert (np.asarray(pool.masks) > 127).sum((1, 2)).tolist() == [(SIZE // 2) ** 2] * 12


def test_no_background_bleeds_into_a_soft_edge(root):
    """A red object on a blue ground, mask with a soft edge: the composite over black holds no blue."""
    photo = solid((0, 0, 255), 37, 23)
    photo[square(37, 23) > 0] = (255, 0, 0)
    alpha = np.asarray(Image.fromarray(square(37, 23)).resize((9, 9)).resize((37, 23), Image.Resampling.BILINEAR))
    alpha = np.minimum(alpha, square(37, 23))
    save(root / "cutouts" / "cat" / "soft.png", np.dstack([photo, alpha]))
    pool, catalog = load_folder(spec(root))
    index = catalog.object_names.index("cutouts/cat/soft.png")
    image, mask = np.asarray(pool.images[index]), np.asarray(pool.masks[index])
    assert image[..., 2].max() == 0 and len(np.unique(mask)) > 4
    np.testing.assert_allclose(image[..., 0].astype(int), mask, atol=1)


def test_masks_of_zero_and_one_and_grey_photos_are_fine(root):
    files = {"00.png": square(value=1), "01.png": Image.fromarray(square()).convert("1"), "00.jpg": square() // 3}
    place(root / "cutouts" / "cat", files)
    pool, _ = load_folder(spec(root))
    np.testing.assert_array_equal(pool.masks[0], pool.masks[2])
    np.testing.assert_array_equal(pool.masks[1], pool.masks[2])
    assert np.ptp(np.asarray(pool.images[0]), axis=-1).max() == 0


def test_exif_orientation_and_scene_crop(root):
    """Stored lying, shown standing: what is left in the file is on top in the pool."""
    stored = np.hstack([solid(RED, 20, 20), solid(BLUE, 20, 20)])
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "cutouts" / "cat" / "00.jpg", stored, exif=exif.tobytes(), quality=95)
    save(root / "cutouts" / "cat" / "00.png", np.full((40, 20), 255, np.uint8))
    save(root / "scenes" / "land" / "0.png", np.hstack([solid(RED, 10), solid(GREEN, 20), solid(RED, 10)]))
    pool, _ = load_folder(spec(root))
    assert pool.aspects[0] == 0.5
    np.testing.assert_allclose(pool.images[0, 1, 8].astype(int), RED, atol=6)
    np.testing.assert_allclose(pool.images[0, -2, 8].astype(int), BLUE, atol=6)
    np.testing.assert_array_equal(pool.scenes[0], np.broadcast_to(np.uint8(GREEN), (SIZE, SIZE, 3)))


def test_photo_folder_with_splits(tmp_path):
    root = tmp_path / "data"
    photos(root, per_group=(9, 6, 6, 9), splits=("train", "val", "test"))
    pool, catalog = load_folder(spec(root))
    assert (pool.kind, catalog.class_names, catalog.scene_names) == ("photo", ("cat", "dog"), ("indoor", "outdoor"))
    widths, heights = zip(*(read_image(root / name).size for name in catalog.object_names), strict=True)
    np.testing.assert_allclose(pool.aspects, np.divide(widths, heights))
    assert pool.scenes.shape == (0, SIZE, SIZE, 3) and len(catalog.scene_photo_names) == 0
    assert catalog.object_split.tolist() == [0, 1, 2] * 10
    for image, mask, y, scene in zip(pool.images, pool.masks, catalog.object_class, catalog.object_scene, strict=True):
        np.testing.assert_allclose(image[0, 0].astype(int), (GREEN, BLUE)[scene], atol=2)
        assert np.unique(mask).tolist() == [0, 1 + y]


def test_names_can_be_given_in_order(root):
    save(root / "cutouts" / "ant" / "0.png", np.dstack([solid(RED), square()]))
    _, catalog = load_folder(spec(root, classes=("dog", "cat"), scene_kinds=("water", "land")))
    assert catalog.class_names == ("dog", "cat") and catalog.object_names[0] == "cutouts/dog/00.jpg"
    assert catalog.scene_names == ("water", "land") and catalog.scene_photo_names[0] == "scenes/water/0.png"
    assert load_folder(spec(root, usual=("water", "water", "land")))[1].groups == Groups(3, 2, ((1,), (1,), (0,)))
    assert "no image of cow" in problems_of(root, classes=("cat", "cow"))[0]


def test_composite_metadata_fixes_parts(root):
    write_metadata(root, [("cutouts/dog/01.jpg", "test"), ("scenes/land/2.png", "val")], columns=("filename", "split"))
    _, catalog = load_folder(spec(root))
    assert catalog.object_split[7] == 2 and catalog.scene_split[2] == 1
    assert (catalog.object_split == -1).sum() == 11 and (catalog.scene_split == -1).sum() == 7
    write_metadata(root, [("dog/01.jpg", "test"), ("scenes/land/2.png", "dev")], columns=("filename", "split"))
    first, second = problems_of(root)
    assert first == "metadata.csv line 2: 'dog/01.jpg' is no listed image of cutouts/ or scenes/"
    assert second == "metadata.csv line 3: split: expected train, val, test or nothing; found 'dev'"


def test_a_stored_pool_is_found_again_and_a_damaged_one_is_made_again(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    pools = tmp_path / "home/flipjax/pools"
    first, catalog = load_folder(spec(root))
    (folder,) = pools.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(store, "build_pool", None)
        again, result = load_folder(spec(root))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert result.content == catalog.content and result.object_names == catalog.object_names
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[-1 - len(whole) // 3] ^= 1
        for damaged in (bytes(flipped), whole[:-20], b""):
            path.write_bytes(damaged)
            rebuilt, described = load_folder(spec(root))
            assert described.content == catalog.content and path.read_bytes() == whole, path
            np.testing.assert_array_equal(rebuilt.images, first.images)
        assert f"the stored pool {folder} is damaged" in capsys.readouterr().err
    (folder / "images.npy").unlink()
    assert load_folder(spec(root))[1].content == catalog.content
    save(root / "scenes" / "land" / "0.png", solid(RED))
    other, described = load_folder(spec(root))
    assert (np.asarray(other.scenes[0, 0, 0]) == RED).all() and described.content != catalog.content
    assert len(list(pools.iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning_only(root, tmp_path, capsys, monkeypatch):
    (tmp_path / "home").write_text("a file, not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    load_folder(spec(root))
    assert "XDG_CACHE_HOME names another folder" in capsys.readouterr().err


def test_a_dry_run_checks_the_pool_and_ends_as_the_sweep_would(tmp_path, capsys):
    composite(tmp_path / "photos", objects=30)
    line = ["--config", "photos_grid", "--dry_run"]
    sizes = [f"--config.split.{name}" for name in ("n_train=32", "n_val=12", "n_test=44")]
    asked = [f"--config.pool.root={tmp_path / 'photos'}", "--config.pool.size=16"]
    for more, code, named in (
        ([], 2, "config.pool.root"),
        (["--config.pool.root=nowhere"], 2, "nowhere"),
        (asked, 1, "config.split.n_test 400"),
        ([*asked, *sizes[1:]], 1, "n_train 800 at rho 0.5"),
        ([*asked, *sizes, "--config.pool.classes=('cat','emu')"], 1, "emu"),
        ([*asked, *sizes], 0, ""),
    ):
        assert sweep([*line, *more]) == code, more
        out, err = capsys.readouterr()
        assert "nothing was trained" in out and named in err and err.count("\n") <= 2, err
