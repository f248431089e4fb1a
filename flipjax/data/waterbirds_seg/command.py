"""Waterbirds-Seg: CUB-200-2011 birds on Places365 scenes."""

import argparse
from functools import partial
from pathlib import Path

from flipjax.config import ConfigError, valid_rho
from flipjax.data.waterbirds_seg import archives, manifest, pools

NAME = "waterbirds_seg"
SCENES = 2662


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `prepare` reads."""
    _add_archives(parser)
    made = parser.add_mutually_exclusive_group()
    made.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="make a photo pool of this manifest's own composites, instead of cut-outs and scenes for any rho",
    )
    made.add_argument(
        "--split_by",
        type=Path,
        nargs="+",
        default=[],
        metavar="CSV",
        help="cut-outs and scenes of these manifests alone, in the parts that they say (where two differ: the first)",
    )
    text = f"scene photos of each kind, 0 for all (default {SCENES}, as many as the released manifests show)"
    parser.add_argument("--scenes", type=int, default=SCENES, help=text)


def prepare(options: argparse.Namespace) -> int:
    """Makes the pool; returns the exit code.

    Args:
        options: `size` and `out` beside those of `add_arguments`.

    Raises:
        ConfigError: an argument is wrong, or the archives do not hold enough.
        PreparingError: files are missing, or cannot be used.
        OSError: the disk is full, or cannot be written to.
    """
    for field in ("cub_dir", "places_dir"):
        if not getattr(options, field).is_dir():
            raise ConfigError(f"{field}", problem=f"expected a folder, found {getattr(options, field)}")
    archives.check_cub(options.cub_dir)
    content, holds = _content(options)
    print(holds)
    facts = {"name": NAME, "holds": holds + ", labels fixed" * options.fix_labels}
    folders = {"cub_dir": options.cub_dir, "places_dir": options.places_dir}
    pools.make(content, **folders, size=options.size, out=options.out, facts=facts)
    return 0


def _content(options: argparse.Namespace) -> tuple[pools.Content, str]:
    """Returns what the pool holds, as lists and in words."""
    read = partial(manifest.read_manifest, fix_labels=options.fix_labels)
    if options.split_by:
        content = pools.of_parts([row for path in options.split_by for row in read(path)])
        return content, f"a composite pool of the birds and scenes of {', '.join(map(str, options.split_by))}"
    if path := options.manifest or _beside(options.cub_dir):
        return pools.of_manifest(read(path)), f"a photo pool of the composites of {path}"
    birds = archives.read_birds(options.cub_dir, fix_labels=options.fix_labels)
    content = pools.of_archives(birds, archives.read_scenes(options.places_dir), scenes=options.scenes)
    return content, f"a composite pool of the birds of {options.cub_dir}"


def add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `write_manifest` reads."""
    _add_archives(parser)
    parser.add_argument("--rho", type=float, required=True, help="share of a class in its usual scene, in [0.5, 1]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the file to write")


def write_manifest(options: argparse.Namespace) -> int:
    """Writes a manifest of any rho and prints its counts; returns the exit code. Errors as of `prepare`."""
    if not valid_rho(options.rho):
        raise ConfigError("rho", problem=f"expected a number in [0.5, 1], found {options.rho}")
    if options.seed < 0:
        raise ConfigError("seed", problem=f"expected a whole number >= 0, found {options.seed}")
    birds = archives.read_birds(options.cub_dir, fix_labels=options.fix_labels)
    scenes = archives.read_scenes(options.places_dir)
    rows = manifest.make_manifest(birds, scenes, rho=options.rho, seed=options.seed)
    manifest.write_manifest(options.out, rows)
    for part, counts in manifest.count_groups(rows).items():
        print(f"{part:5}  groups 0 1 2 3: {' '.join(map(str, counts))}")
    print(f"{options.out}: {len(rows)} images")
    return 0


def _add_archives(parser: argparse.ArgumentParser) -> None:
    add = partial(parser.add_argument, type=Path, required=True, metavar="DIR")
    add("--cub_dir", help="CUB_200_2011, with images/ and segmentations/")
    add("--places_dir", help="Places365, its categories bamboo_forest, forest/broadleaf, ocean and lake/natural")
    parser.add_argument(
        "--fix_labels",
        action="store_true",
        help="call Eastern Towhee, Western Meadowlark and Western Wood Pewee landbirds (the lists: waterbirds)",
    )


def _beside(cub_dir: Path) -> Path | None:
    """Returns the metadata.csv in or beside a folder that has not CUB's own lists."""
    if (cub_dir / "images.txt").exists():
        return None
    paths = (cub_dir / "metadata.csv", cub_dir.parent / "metadata.csv")
    return next((path for path in paths if path.is_file()), None)
