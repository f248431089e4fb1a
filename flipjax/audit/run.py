"""What the command line of an audit does: from files to tables and a page."""

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax import results
from flipjax.audit import files
from flipjax.audit.arrays import AuditError, Limits, Reader
from flipjax.audit.groups import read_groups
from flipjax.audit.layout import Layout, check_limits, check_types, find_layout
from flipjax.audit.measure import measure
from flipjax.audit.results import Audit, check_names, conclude, findings
from flipjax.audit.sources import Pair, open_source, pair
from flipjax.audit.tables import summary_text
from flipjax.audit.values import Values
from flipjax.results import gallery
from flipjax.terminal import Bar

DRAWN_WITH = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
"""What a page needs beside JAX and NumPy: modules, and the packages that bring them."""


def _open(options: argparse.Namespace) -> tuple[list[Pair], Layout, bool]:
    """Finds the images by headers alone; the last says whether they are known by position."""
    limits = Limits(options.max_pixels, options.max_bytes, options.max_unpacked)
    with Reader() as reader:
        predictions = open_source(options.logits, wanted=options.kind, rank=3, reader=reader, limits=limits)
        labels = open_source(options.labels, wanted="labels", rank=2, reader=reader, limits=limits)
    check_types(predictions, labels, kind=options.kind)
    pairs = pair(predictions, labels)
    layout = find_layout(pairs, channels=options.channels)
    check_limits(pairs, layout, limits)
    if not 0 <= options.background < layout.classes:
        raise AuditError(f"--background: expected a class in 0..{layout.classes - 1}, found {options.background}")
    return pairs, layout, predictions.names is None and labels.names is None


def _facts(pairs: Sequence[Pair], layout: Layout, options: argparse.Namespace) -> list[str]:
    sizes = sorted({p.labels.shape for p in pairs})
    size = f"{sizes[0][0]} x {sizes[0][1]} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    return [
        f"{len(pairs)} images of {size}, {layout.classes} classes ({options.kind}, channels {layout.channels}).",
        f"Predictions: {options.logits}. Labels: {options.labels}."
        + (f" Groups: {options.groups}." if options.groups else ""),
    ]


def run(options: argparse.Namespace) -> str:
    """Does what the command line asks for, and returns its tables as text for a terminal.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    pairs, layout, positional = _open(options)
    class_names = check_names(layout.classes, options.background, options.class_names)
    names = [entry.name for entry in pairs]
    groups = None
    if options.groups:
        groups, names = read_groups(options.groups, names, classes=layout.classes, positional=positional)
    lacking = [package for module, package in DRAWN_WITH.items() if importlib.util.find_spec(module) is None]
    if lacking and options.images:
        raise AuditError(f"--images: expected {', '.join(lacking)}, which show photos, found none of that name")
    photos = {} if lacking else _photos(options.images, names)
    files.claim(options.out)
    facts = _facts(pairs, layout, options)
    print(facts[0], file=sys.stderr, flush=True)
    values = Values(options.kind, options.background, options.ignore_index)
    done = 0
    with Bar("images", total=len(pairs)) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.advance(count, f"{done} of {len(pairs)} images", last=done == len(pairs))

        measured = measure(pairs, layout, values, advance=advance)
    further = results.region_quantities(measured.regions, groups, classes=layout.classes)
    counts = (measured.decomposition, measured.ignored)
    audit = conclude(names, groups, *counts, class_names=class_names, further=further)
    used = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    used = used | {"channels": layout.channels, "class_names": list(class_names)}
    files.write_tables(options.out, audit, options=used, facts=facts)
    if lacking:
        print(f"no page: it needs {', '.join(lacking)}; python -m pip install flipjax brings them", file=sys.stderr)
    else:
        _draw(audit, pairs, layout, values, options=used, facts=facts, photos=photos, folder=options.out)
    return summary_text(audit, facts)


def _photos(folder: Path | None, names: Sequence[str]) -> dict[str, Path]:
    from flipjax.audit import pictures

    return pictures.find_photos(folder, names)


def _draw(
    audit: Audit,
    pairs: Sequence[Pair],
    layout: Layout,
    values: Values,
    *,
    options: Mapping[str, Any],
    facts: Sequence[str],
    photos: Mapping[str, Path],
    folder: Path,
) -> None:
    """Makes the page, of packages that are loaded here alone: the tables need none of them."""
    from flipjax.audit import page, pictures

    indices, kinds = gallery.choose(audit.decomposition, riskiest=pictures.SHOWN, typical=0, sure=pictures.SHOWN)
    chosen = dict(zip(indices.tolist(), kinds.tolist(), strict=True))
    items = pictures.draw_out(audit, pairs, layout, values, chosen=chosen, photos=photos)
    page.write_page(folder, audit, items, lines=findings(audit), options=options, facts=facts)
