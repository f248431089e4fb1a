"""Waterbirds-Seg: CUB-200-2011 birds on Places365 scenes."""

import re
from collections.abc import Sequence
from pathlib import Path

from flipjax.config import ConfigError, check_value
from flipjax.data.download import Archive, fetch
from flipjax.data.waterbirds_seg import archives
from flipjax.data.waterbirds_seg import manifest as manifests
from flipjax.files import sha256
from flipjax.groups import Groups

PLACES = "/(bamboo_forest|forest-broadleaf|ocean|lake-natural)/"
ARCHIVES = (
    Archive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        members="^CUB_200_2011/",
        md5="97eceeb196236b17998738112f37df78",
    ),
    Archive("https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz", into="CUB_200_2011"),
    Archive("http://data.csail.mit.edu/places/places365/places365standard_easyformat.tar", members=PLACES),
)
"""Archives of `--download`: 27 GB, of which 3 GB are unpacked."""


def prepare(
    *,
    cub_dir: Path | None = None,
    places_dir: Path | None = None,
    download: bool = False,
    manifest: Path | None = None,
    split_by: Sequence[Path] = (),
    scenes: int = archives.SCENES,
    fix_labels: bool = False,
    size: int = 0,
    data_dir: Path,
) -> str:
    """Makes the data set and returns a sentence about its content; raises as `builders.prepare_data_set` does.

    Args:
        cub_dir: CUB_200_2011, with images/ and segmentations/.
        places_dir: Places365.
        download: whether to fetch both in place of these folders.
        manifest: makes the composites of this manifest, instead of cut-outs and scenes for any rho.
        split_by: uses only the cut-outs and scenes of these manifests, in their parts.
        scenes: scene photos of each kind; 0: all.
        fix_labels: whether to relabel three species of landbirds that the lists call waterbirds.
        size: pixels a side; 0: as large as each photo.
        data_dir: of TFDS.
    """
    from flipjax.data import builders
    from flipjax.data.waterbirds_seg.waterbirds_seg_dataset_builder import Builder, WaterbirdsSegConfig

    if scenes < 0:
        raise ConfigError("--scenes", "a whole number >= 0", scenes)
    if download:
        root = fetch(ARCHIVES, data_dir / "downloads" / "waterbirds_seg")
        cub_dir, places_dir = root / "CUB_200_2011", root / "places365_standard"
    if cub_dir is None or places_dir is None:
        raise ConfigError("--places_dir" if cub_dir else "--cub_dir", "a folder, or --download", "none")
    manifest = manifest or (None if split_by else _beside(cub_dir))
    tables = [manifest] if manifest else list(split_by)
    # No two data sets share a folder: manifests are named by their content, in what TFDS can read as a name.
    parts = ["manifest" if manifest else "cutouts"]
    for path in tables:
        parts += [re.sub(r"[^\w.]", "_", path.stem, flags=re.ASCII), sha256(path.read_bytes())[:8]]
    if not tables and scenes != archives.SCENES:
        parts.append(f"scenes{scenes}")
    parts += [str(size)] * bool(size) + ["fixed"] * fix_labels
    named = {f"{index}-{path.name}": path for index, path in enumerate(tables)}
    config = WaterbirdsSegConfig(
        name="_".join(parts),
        description="Made by flipjax data prepare.",
        composites=bool(manifest),
        manifests=tuple(named),
        scenes=scenes,
        size=size,
        fix_labels=fix_labels,
    )
    sources = {"CUB_200_2011": cub_dir, "places365": places_dir, **named}
    return builders.prepare_data_set(Builder, config, sources, data_dir=data_dir)


def _beside(cub_dir: Path) -> Path | None:
    """Returns the metadata.csv in or beside a folder without CUB's own lists."""
    paths = [] if (cub_dir / "images.txt").exists() else [cub_dir / "metadata.csv", cub_dir.parent / "metadata.csv"]
    return next((path for path in paths if path.is_file()), None)


def write_manifest(
    cub_dir: Path, places_dir: Path, out: Path, *, rho: float, seed: int = 0, fix_labels: bool = False
) -> str:
    """Writes a manifest for any rho and returns its counts as text.

    Raises:
        ConfigError: an argument is wrong, or the archives are too small.
        OSError: the file cannot be written.
    """
    accepts, text = Groups().rho_range
    if not accepts(rho):
        raise ConfigError("--rho", text, rho)
    check_value("split.seed", seed)
    birds = archives.read_birds(cub_dir, fix_labels=fix_labels)
    rows = manifests.make_manifest(birds, archives.read_scenes(places_dir), rho=rho, seed=seed)
    manifests.write_manifest(out, rows)
    counts = manifests.count_groups(rows)
    lines = [f"{part:5}  groups 0 1 2 3: {' '.join(map(str, count))}" for part, count in counts.items()]
    return "\n".join([*lines, f"{out}: {len(rows)} images"])
