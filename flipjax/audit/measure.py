"""From files to tables and a page: predictions and labels are decomposed an image at a time, in bounded memory."""

import argparse
import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from flipjax import metrics
from flipjax.audit import files
from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.groups import read_groups
from flipjax.audit.read import Encoding, Pair, find_encoding, open_source, pair_images, read_scores
from flipjax.audit.results import check_class_names, conclude_audit
from flipjax.audit.tables import summary_text
from flipjax.metrics import Decomposition
from flipjax.metrics.classes import read_background
from flipjax.results.region_shares import region_quantities
from flipjax.terminal import Bar

DRAWN_WITH = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
"""What a page needs beside JAX and NumPy: modules, and the packages that bring them."""


def read_pair(reader: ArrayReader, pair: Pair, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
    """Reads the scores float32 (H, W, C) and the labels (H, W) of one image; raises what `read_scores` does."""
    return read_scores(reader, pair.prediction, encoding), reader.read(pair.labels)


@contextlib.contextmanager
def naming(pair: Pair) -> Iterator[None]:
    """Names the file that a metric refuses, and spells its options as the command line does."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name, _, problem = str(error).rstrip(".").partition(": ")
        option = f"--{name}: " if name == "background" else ""
        problem = problem.replace("background=None", "--background none")
        problem = re.sub(r"\b(kind|ignore_index)=['\"]?(\w+)['\"]?", r"--\1 \2", problem)
        raise AuditError(f"{option}{pair.labels if name == 'labels' else pair.prediction}: {problem}") from error


def measure_pairs(pairs: Sequence[Pair], encoding: Encoding) -> tuple[Decomposition, np.ndarray, metrics.RegionSums]:
    """Decomposes every image by `flipjax.metrics.decompose`; the next one is read while one is computed.

    Returns:
        A decomposition of n images, the ignored pixels int64 (n,) of each, and the sums over their regions.

    Raises:
        AuditError: a file is damaged, or values are not what they should be; names the image.
    """
    C = encoding.classes
    confusion = np.zeros((len(pairs), C, C), np.int32)
    risk_sum = np.zeros(len(pairs), np.float32)
    regions = []
    options = {name: getattr(encoding, name) for name in ("kind", "background", "ignore_index")}
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread, Bar("images", total=len(pairs)) as bar:
        following = thread.submit(read_pair, reader, pairs[0], encoding)
        for index, each in enumerate(pairs):
            scores, labels = following.result()
            if index + 1 < len(pairs):
                following = thread.submit(read_pair, reader, pairs[index + 1], encoding)
            with naming(each):
                image = metrics.decompose(scores, labels, **options)
                sums = metrics.region_sums(scores, labels, **options)
            confusion[index] = image.confusion
            risk_sum[index] = image.risk_sum
            regions.append([np.asarray(leaf) for leaf in sums])
            bar.advance(1, f"{index + 1} of {len(pairs)} images", last=index + 1 == len(pairs))
    areas = np.array([np.prod(each.labels.shape, dtype=np.int64) for each in pairs])
    ignored = areas - confusion.sum((1, 2), dtype=np.int64)
    sums = metrics.RegionSums(*map(np.stack, zip(*regions, strict=True)))
    return Decomposition(confusion, risk_sum, encoding.background), ignored, sums


def open_pairs(options: argparse.Namespace) -> tuple[list[Pair], Encoding, bool]:
    """Finds the images by headers alone; the last says whether they are known by position."""
    limits = Limits(options.max_pixels, options.max_bytes, options.max_unpacked)
    with ArrayReader() as reader:
        predictions = open_source(options.logits, wanted=options.kind, rank=3, reader=reader, limits=limits)
        labels = open_source(options.labels, wanted="labels", rank=2, reader=reader, limits=limits)
    pairs = pair_images(predictions, labels)
    wanted = {name: getattr(options, name) for name in ("kind", "channels", "ignore_index")}
    try:
        wanted["background"] = read_background(options.background)
    except ValueError as error:
        raise AuditError(f"--{error}") from error
    return pairs, find_encoding(pairs, limits=limits, **wanted), predictions.names is None and labels.names is None


def audit_files(options: argparse.Namespace) -> str:
    """Does what the command line asks for, and returns its tables as text for a terminal.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    pairs, encoding, positional = open_pairs(options)
    class_names = check_class_names(encoding.classes, encoding.background, options.class_names)
    if options.background == 0 and "background" not in class_names[0].lower():
        print(
            f"flipjax audit: class 0, {class_names[0]!r}, is taken for the background; where no class is, pass "
            "--background none, and --background 0 where it is.",
            file=sys.stderr,
        )
    names = [entry.name for entry in pairs]
    groups = None
    if options.groups:
        groups, names = read_groups(options.groups, names, classes=encoding.classes, positional=positional)
    lacking = [package for module, package in DRAWN_WITH.items() if importlib.util.find_spec(module) is None]
    if lacking and options.images:
        raise AuditError(f"--images: expected {', '.join(lacking)}, which show photos, found none of that name")
    photos = {}
    if options.images:
        from flipjax.audit import pictures

        photos = pictures.find_photos(options.images, names)
    files.claim_folder(options.out)
    facts = _facts(pairs, encoding, options)
    print(facts[0], file=sys.stderr, flush=True)
    decomposition, ignored, regions = measure_pairs(pairs, encoding)
    further = region_quantities(regions, groups, classes=encoding.classes)
    audit = conclude_audit(names, groups, decomposition, ignored, class_names=class_names, further=further)
    used = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    used |= {"channels": encoding.channels, "background": encoding.background, "class_names": list(class_names)}
    files.write_tables(options.out, audit, options=used, facts=facts)
    if lacking:
        print(f"no page: it needs {', '.join(lacking)}; python -m pip install flipjax brings them", file=sys.stderr)
    else:
        # Here: the tables need none of what draws.
        from flipjax.audit import page, pictures

        items = pictures.draw_items(audit, pairs, encoding, photos=photos)
        page.write_page(options.out, audit, items, options=used, facts=facts)
    return summary_text(audit, facts)


def _facts(pairs: Sequence[Pair], encoding: Encoding, options: argparse.Namespace) -> list[str]:
    sizes = sorted({each.labels.shape for each in pairs})
    size = f"{sizes[0][0]} x {sizes[0][1]} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    groups = f" Groups: {options.groups}." if options.groups else ""
    return [
        f"{len(pairs)} images of {size}, {encoding.classes} classes ({encoding.kind}, channels {encoding.channels}).",
        f"Predictions: {options.logits}. Labels: {options.labels}.{groups}",
    ]
