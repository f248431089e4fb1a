"""ARCHITECTURE.md, the other pages and the scripts use names that exist, and the page stays short."""

import ast
import pathlib
import pkgutil
import re

from flipjax.config import LISTS, PLACES

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "flipjax/ARCHITECTURE.md").read_text()


def exists(name):
    """Whether a name of the page is a file of the project, a key of a configuration, or a name below flipjax."""
    if "/" in name:
        return (ROOT / name).exists() or (not (ROOT / "sweeps").is_dir() and name.startswith("sweeps/"))
    if any(f"config.{key}.".startswith(f"{name}.") for key in (*PLACES, *LISTS)):
        return True
    try:
        pkgutil.resolve_name(f"flipjax.{name}")
    except (ImportError, AttributeError):
        return False
    return True


def names():
    """Returns the names in backticks, and the dotted names of the two pictures."""
    blocks = re.findall(r"```\n(.*?)```", TEXT, re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```\n.*?```", "", TEXT, flags=re.S))
    nouns = re.findall(r"^ *([a-z]+(?:\.\w+)+) ", blocks[1], re.M)
    rooms = re.findall(r"^ ([a-z_]+)(?: +([a-z]+))?(?: +([a-z]+))?  ", blocks[0], re.M)
    return spans, nouns, [room for line in rooms for room in line if room]


def test_every_name_exists():
    spans, nouns, rooms = names()
    assert len(nouns) >= 10 and len(rooms) >= 15
    assert [name for name in [*spans, *nouns, *rooms] if name != "flipjax." and not exists(name)] == []


def test_pages_point_to_what_is_there():
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md")]
    pages += [page for folder in ("flipjax", "configs", "sweeps") for page in (ROOT / folder).rglob("*.md")]
    stale = []
    for page in filter(pathlib.Path.is_file, pages):
        text = page.read_text()
        links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
        files = re.findall(r"`((?:tests|sweeps|flipjax|configs)/[\w./]+)`", text)
        stale += [(page.name, link) for link in links if not (page.parent / link).exists()]
        stale += [(page.name, file) for file in files if not (ROOT / file).exists()]
    assert stale == []


def names_of(tree):
    """Every dotted name of flipjax that a script imports, and every attribute that it takes of what it imported."""
    known, nodes = {}, list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flipjax":
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return {*known.values(), *(f"{known[node.value.id]}.{node.attr}" for node in attributes if node.value.id in known)}


def test_scripts_ask_for_what_is_there():
    for path in (ROOT / "sweeps").rglob("*.py"):
        # Of a package that is no dependency nothing can be said.
        names = [name for name in names_of(ast.parse(path.read_text())) if "torchmetric" not in name]
        assert [name for name in names if not exists(name.removeprefix("flipjax."))] == [], path
