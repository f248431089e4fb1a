"""The built-in animals and users' photos as images of an assay, at a rho of their scenes."""

from pathlib import Path

import numpy as np
from PIL import Image

import flipjax
from flipjax.config import Config
from flipjax.data.sources.arrays import ArrayData

COUNT = 600
"""Images of an assay."""
ANIMALS = {"class_names": ("mossling", "ripplet"), "scene_names": ("one", "two")}
PHOTOS = {"class_names": ("cat", "dog"), "scene_names": ("land", "water")}


def animals(*, rho: float = 0.9, count: int = COUNT, size: int = 32, **changes) -> Config:
    """Returns the configuration of the built-in animals that draws images at a rho; `changes` are other keys."""
    keys = {"pool.size": size, "pool.objects": max(COUNT, count), "split.n_train": count, "axes.rho": (rho,)}
    return flipjax.configure("correlation_grid", {**keys, **changes})


def photos(folder: Path, *, rho: float = 0.9, size: int = 96) -> Config:
    """Returns the configuration of cut-outs on scenes of a folder that draws photos at a rho."""
    keys = {"pool.root": str(folder), "pool.size": size, "split.n_train": COUNT, "axes.rho": (rho,)}
    return flipjax.configure("photos_grid", keys)


def pool_of(config: Config, names: dict[str, tuple[str, ...]], *, coin: bool = False) -> ArrayData:
    """Returns the training images of a configuration as a photo pool, which keep their scenes.

    Args:
        config: of the images.
        names: of classes and scenes.
        coin: whether the attribute is a coin, in place of the scene.
    """
    images = flipjax.data.benchmark(config, rho=config.axes.rho[0], seed=0).train
    scenes = images.scenes
    if coin:
        scenes = np.random.default_rng(1).integers(0, 2, len(scenes))
    pixels = np.rint(images.images * 255).astype(np.uint8)
    return flipjax.data.from_arrays(pixels, images.masks, images.classes, scenes, **names)


def write_folder(data: ArrayData, folder: Path, *, attribute: str) -> Path:
    """Writes a photo pool as a folder of images/, masks/ and metadata.csv; one that is there is kept."""
    if (folder / "metadata.csv").exists():
        return folder
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lines = [f"filename,class,{attribute}"]
    catalog = data.catalog
    for number, item in enumerate(catalog.objects):
        name = f"{number:04}.png"
        Image.fromarray(np.asarray(data.pool.images[number])).save(folder / "images" / name)
        Image.fromarray(np.asarray(data.pool.masks[number])).save(folder / "masks" / name)
        lines.append(f"{name},{catalog.class_names[item.y]},{catalog.scene_names[item.scene]}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder
