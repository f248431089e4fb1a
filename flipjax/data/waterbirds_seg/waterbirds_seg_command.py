"""Waterbirds-Seg: CUB-200-2011 birds on Places365 scenes."""

import argparse
import hashlib
import re
from functools import partial
from pathlib import Path

from flipjax.command import read_folder
from flipjax.config import ConfigError, check_value
from flipjax.data.download import Archive, fetch
from flipjax.data.waterbirds_seg import archives, manifest
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
"""What `--download` fetches: 27 GB, of which 3 GB are unpacked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `prepare` reads."""
    _add_archives(parser, required=False)
    text = "fetch CUB and Places365 first (27 GB) in place of --cub_dir and --places_dir"
    parser.add_argument("--download", action="store_true", help=text)
    content = parser.add_mutually_exclusive_group()
    text = "make this manifest's own composites, instead of cut-outs and scenes for any rho"
    content.add_argument("--manifest", type=_read_file, metavar="CSV", help=text)
    text = "cut-outs and scenes of these manifests alone, in the parts that they say (where two differ: the first)"
    content.add_argument("--split_by", type=_read_file, nargs="+", default=[], metavar="CSV", help=text)
    text = "scene photos of each kind, 0 for all (default {0}, as many as the released manifests show)"
    parser.add_argument("--scenes", type=int, default=archives.SCENES, help=text.format(archives.SCENES))


def prepare(options: argparse.Namespace) -> str:
    """Makes the data set and returns in words what it holds; errors as in `flipjax.data.builders.prepare_data_set`.

    Args:
        options: `size` and `data_dir` beside those of `add_arguments`.
    """
    from flipjax.data import builders
    from flipjax.data.waterbirds_seg.waterbirds_seg_dataset_builder import Builder, WaterbirdsSegConfig

    if options.download:
        root = fetch(ARCHIVES, options.data_dir / "downloads" / "waterbirds_seg")
        options.cub_dir, options.places_dir = root / "CUB_200_2011", root / "places365_standard"
    for name in ("cub_dir", "places_dir"):
        if getattr(options, name) is None:
            raise ConfigError(f"--{name}", "a folder, or --download", "none")
    if options.scenes < 0:
        raise ConfigError("--scenes", "a whole number >= 0", options.scenes)
    options.manifest = options.manifest or (None if options.split_by else _beside(options.cub_dir))
    tables = [options.manifest] if options.manifest else options.split_by
    named = {f"{index}-{path.name}": path for index, path in enumerate(tables)}
    config = WaterbirdsSegConfig(
        name=_config_name(options, tables),
        description="Made by flipjax data prepare.",
        composites=bool(options.manifest),
        manifests=tuple(named),
        scenes=options.scenes,
        size=options.size,
        fix_labels=options.fix_labels,
    )
    sources = {"CUB_200_2011": options.cub_dir, "places365": options.places_dir, **named}
    return builders.prepare_data_set(Builder, config, sources, data_dir=options.data_dir)


def add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `write_manifest` reads."""
    _add_archives(parser)
    parser.add_argument("--rho", type=float, required=True, help="share of a class in its usual scene, in [0.5, 1]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the file to write")


def write_manifest(options: argparse.Namespace) -> str:
    """Writes a manifest of any rho and returns its counts in words.

    Raises:
        ConfigError: an argument is wrong, or the archives do not hold enough.
        OSError: the file cannot be written.
    """
    accepts, text = Groups().rho_range
    if not accepts(options.rho):
        raise ConfigError("--rho", text, options.rho)
    check_value("split.seed", options.seed)
    birds = archives.read_birds(options.cub_dir, fix_labels=options.fix_labels)
    scenes = archives.read_scenes(options.places_dir)
    rows = manifest.make_manifest(birds, scenes, rho=options.rho, seed=options.seed)
    manifest.write_manifest(options.out, rows)
    counts = manifest.count_groups(rows)
    lines = [f"{part:5}  groups 0 1 2 3: {' '.join(map(str, count))}" for part, count in counts.items()]
    return "\n".join([*lines, f"{options.out}: {len(rows)} images"])


def _add_archives(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    add = partial(parser.add_argument, type=read_folder, required=required, metavar="DIR")
    add("--cub_dir", help="CUB_200_2011, with images/ and segmentations/")
    add("--places_dir", help="Places365, its categories bamboo_forest, forest/broadleaf, ocean and lake/natural")
    text = "call Eastern Towhee, Western Meadowlark and Western Wood Pewee landbirds (the lists: waterbirds)"
    parser.add_argument("--fix_labels", action="store_true", help=text)


def _read_file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"expected a CSV; found {text}")
    return Path(text)


def _beside(cub_dir: Path) -> Path | None:
    """Returns the metadata.csv in or beside a folder that has not CUB's own lists."""
    paths = [] if (cub_dir / "images.txt").exists() else [cub_dir / "metadata.csv", cub_dir.parent / "metadata.csv"]
    return next((path for path in paths if path.is_file()), None)


def _config_name(options: argparse.Namespace, tables: list[Path]) -> str:
    """Returns a name that tells the options, so that no two data sets share a folder: manifests by their content."""
    parts = ["manifest" if options.manifest else "cutouts"]
    for path in tables:
        # What TFDS can read as a name.
        parts.append(re.sub(r"[^\w.]", "_", path.stem, flags=re.ASCII))
        with path.open("rb") as stream:
            parts.append(hashlib.file_digest(stream, "sha256").hexdigest()[:8])
    if not tables and options.scenes != archives.SCENES:
        parts.append(f"scenes{options.scenes}")
    if options.size:
        parts.append(str(options.size))
    if options.fix_labels:
        parts.append("fixed")
    return "_".join(parts)
