"""Prepares Waterbirds-Seg: birds of CUB-200-2011 on scenes of Places365."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipjax.config import ConfigError
from flipjax.config.checks import check_value
from flipjax.config.groups import Groups
from flipjax.data.part_names import PARTS
from flipjax.data.prepare.waterbirds_seg.reference import SCENES
from flipjax.support.files import sha256, write_text

if TYPE_CHECKING:
    from flipjax.data.prepare.waterbirds_seg.waterbirds_seg_dataset_builder import WaterbirdsSegConfig


def prepare(
    *,
    cub_dir: Path | None = None,
    places_dir: Path | None = None,
    download: bool = False,
    manifest: Path | None = None,
    split_by: Sequence[Path] = (),
    data_dir: Path,
    **options: Any,
) -> str:
    """Makes the data set and returns a sentence about its content; raises as `builders.prepare_data_set` does.

    Args:
        cub_dir: CUB_200_2011, with images/ and segmentations/.
        places_dir: Places365.
        download: whether to fetch both in place of these folders.
        manifest: makes the composites of this manifest, instead of cut-outs and scenes for any rho.
        split_by: uses only the cut-outs and scenes of these manifests, in their parts.
        data_dir: of TFDS.
        options: `scenes`, `size` and `fix_labels` of `WaterbirdsSegConfig`.

    Raises:
        ConfigError: an option is out of range.
    """
    from flipjax.data.prepare import builders, downloads
    from flipjax.data.prepare.waterbirds_seg.waterbirds_seg_dataset_builder import (
        ARCHIVES,
        Builder,
        WaterbirdsSegConfig,
    )

    config = WaterbirdsSegConfig(name="cutouts", description="Made by flipjax data prepare.", **options)
    if config.scenes < 0:
        raise ConfigError("--scenes", "a whole number >= 0", config.scenes)
    if download:
        root = downloads.fetch(ARCHIVES, data_dir / "downloads" / "waterbirds_seg")
        cub_dir = root / "CUB_200_2011"
        places_dir = root / "places365_standard"
    if cub_dir is None:
        raise ConfigError("--cub_dir", "a folder, or --download", "none")
    if places_dir is None:
        raise ConfigError("--places_dir", "a folder, or --download", "none")
    tables = [manifest] if manifest else list(split_by)
    numbered = {f"{index}-{path.name}": path for index, path in enumerate(tables)}
    config.composites = manifest is not None
    config.manifests = tuple(numbered)
    config.name = _name_of(config, tables)
    sources = {"CUB_200_2011": cub_dir, "places365": places_dir, **numbered}
    return builders.prepare_data_set(Builder, config, sources, data_dir)


def _name_of(config: "WaterbirdsSegConfig", tables: Sequence[Path]) -> str:
    """Returns a name with every option and a digest of each manifest, so that data sets do not share a folder."""
    parts = ["manifest" if config.composites else "cutouts"]
    for path in tables:
        parts.append(re.sub(r"[^\w.]", "_", path.stem, flags=re.ASCII))
        parts.append(sha256(path.read_bytes())[:8])
    if not tables and config.scenes != SCENES:
        parts.append(f"scenes{config.scenes}")
    if config.size:
        parts.append(str(config.size))
    if config.fix_labels:
        parts.append("fixed")
    return "_".join(parts)


def write_manifest(
    cub_dir: Path, places_dir: Path, out: Path, *, rho: float, seed: int = 0, fix_labels: bool = False
) -> str:
    """Writes a manifest for any rho and returns its counts as text.

    Raises:
        ConfigError: an argument is wrong, or the archives are too small.
        OSError: the file cannot be written.
    """
    import pandas as pd

    from flipjax.data.prepare.waterbirds_seg import manifest

    possible = Groups().rho_range
    if not possible.accepts(rho):
        raise ConfigError("--rho", possible.text, rho)
    check_value("split.seed", seed)
    birds = manifest.read_birds(cub_dir, fix_labels=fix_labels)
    rows = manifest.make_manifest(birds, manifest.read_scenes(places_dir), rho=rho, seed=seed)
    table = pd.DataFrame(rows)
    write_text(out, table.to_csv(index=False, lineterminator="\n"))
    counts = pd.crosstab(table["split"], table["group_id"]).rename(index=dict(enumerate(PARTS)))
    return f"{counts}\n{out}: {len(rows)} images"
