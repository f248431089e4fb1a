"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors."""

import re
from pathlib import Path

from flipjax.config import ConfigError
from flipjax.data.coco_cd.categories import CLASSES, N_TEST, N_VAL, SCENES
from flipjax.data.download import Archive, fetch
from flipjax.groups import Groups

COCO = "http://images.cocodataset.org"
ANNOTATIONS = r"(instances|stuff)_(train|val)2017\.json$"
ARCHIVES = (
    Archive(f"{COCO}/zips/train2017.zip", md5="cced6f7f71b7629ddf16f17bbcfab6b2"),
    Archive(f"{COCO}/zips/val2017.zip", md5="442b8da7639aecaf257c1dceb8ba8c80"),
    Archive(
        f"{COCO}/annotations/annotations_trainval2017.zip",
        members=ANNOTATIONS,
        into="annotations",
        flat=True,
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
    ),
    Archive(
        f"{COCO}/annotations/stuff_annotations_trainval2017.zip", members=ANNOTATIONS, into="annotations", flat=True
    ),
)
"""Archives of `--download`: 21 GB, and as much again unpacked."""


def prepare(
    *,
    coco_root: Path | None = None,
    download: bool = False,
    stuff_dir: Path | None = None,
    split: str = "reference",
    classes: tuple[str, ...] = CLASSES,
    scenes: tuple[str, ...] = SCENES,
    rho: float | None = None,
    val_per_group: int = N_VAL,
    test_per_group: int = N_TEST,
    size: int = 0,
    data_dir: Path,
) -> str:
    """Makes the data set and returns a sentence about its content; raises as `builders.prepare_data_set` does.

    Args:
        coco_root: has train2017/, val2017/ and annotations/.
        download: whether to fetch COCO 2017 in place of `coco_root`.
        stuff_dir: has stuff_train2017.json and stuff_val2017.json; None: annotations/.
        split: `reference` for the paper's val and test, `free` for a sweep's own.
        classes: animals.
        scenes: indoor, outdoor, or stuff by category or supercategory.
        rho: of the paper's training set; None: all remaining photos.
        val_per_group: validation images of the reference's split.
        test_per_group: its test images.
        size: pixels a side; 0: as large as each photo.
        data_dir: of TFDS.

    Raises:
        ConfigError: an option is out of range, or a package is missing.
    """
    from flipjax.data import builders
    from flipjax.data.coco_cd.coco_cd_dataset_builder import Builder, CocoCDConfig

    reference = split == "reference"
    if rho is not None and not (reference and Groups().rho_range.accepts(rho)):
        raise ConfigError("--rho", "a number in [0.5, 1], with --split reference", rho)
    for name, count in (("val_per_group", val_per_group), ("test_per_group", test_per_group)):
        if count < 1:
            raise ConfigError(f"--{name}", "a number >= 1", count)
    for name, values in (("classes", classes), ("scenes", scenes)):
        if len(set(values)) < max(2, len(values)):
            raise ConfigError(f"--{name}", "two or more different names", ",".join(values))
    plain = (classes, scenes) == (CLASSES, SCENES)
    if reference and not plain:
        raise ConfigError("--split", "free, for other classes or scenes than the paper's", "reference")
    if download:
        coco_root = fetch(ARCHIVES, data_dir / "downloads" / "coco_cd")
    if coco_root is None:
        raise ConfigError("--coco_root", "a folder, or --download", "none")
    # No two data sets share a folder.
    level = "photos" if rho is None else f"corr{rho:g}"
    parts = [level if reference else "undivided"]
    if reference and (val_per_group, test_per_group) != (N_VAL, N_TEST):
        parts += [str(val_per_group), str(test_per_group)]
    if not plain:
        parts.append(re.sub(r"\W+", "_", "_".join([*classes, *scenes])))
    if size:
        parts.append(f"size{size}")
    config = CocoCDConfig(
        name="_".join(parts),
        description="Made by flipjax data prepare.",
        divided=reference,
        rho=rho,
        n_val=val_per_group,
        n_test=test_per_group,
        size=size,
        classes=classes,
        scenes=scenes,
    )
    sources = {name: coco_root / name for name in ("train2017", "val2017", "annotations")}
    if stuff_dir:
        sources["stuff_annotations"] = stuff_dir
    return builders.prepare_data_set(Builder, config, sources, data_dir=data_dir)
