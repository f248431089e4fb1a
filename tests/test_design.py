"""The design as rules that a machine reads: imports and their cost, calls, and names on pages and in scripts."""

import ast
import collections
import graphlib
import importlib.util
import inspect
import pathlib
import pkgutil
import re
import sys

import pytest
from conftest import python

from flipjax.config import PLACES, WHOLE

ROOT = pathlib.Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "flipjax/ARCHITECTURE.md").read_text()
LAYERS = (
    ("support",),
    ("config",),
    ("backend", "command", "metrics", "losses", "augment"),
    ("intervene", "page"),
    ("models", "data", "results"),
    ("training",),
    ("report",),
    ("sweep",),
    ("runs",),
    ("assays", "audit", "evaluate", "monitor", "tuning"),
    ("__main__",),
)
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units}
OTHERS = {
    "flipjax.metrics.nnxmetric",
    "flipjax.metrics.pixels.tensors",
    "flipjax.metrics.torchmetric",
    "flipjax.models.networks.torch_networks",
}
"""Modules of Flax, PyTorch and torchmetrics, which are loaded where these are at hand."""
POSITIONAL = {"summarize": ["groups"]}  # As the contract writes it.


FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.glob("flipjax/**/*.py"))}
PACKAGES = {name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")}
TREES = {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in FILES.items()}


def lazy_homes():
    """The module of each name that a package loads on first access: `flipjax.open_run` is `flipjax.runs`."""
    homes = {}
    for stub in ROOT.glob("flipjax/**/__init__.pyi"):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    homes[f"{package}.{alias.name}"] = f"{package}.{node.module or alias.name}"
    return homes


LAZY = lazy_homes()


def attributes(tree):
    """Dotted names that begin at an imported package, such as `flipjax.open_run`, with those that they begin with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts = ast.unparse(node).split(".")
            if parts[0] == "flipjax":
                yield from (".".join(parts[:end]) for end in range(2, len(parts) + 1))


def imports_of(tree):
    """Full names of all that a text imports, anywhere in it and by whatever way.

    `from a import b` is a.b if that is a module; a lazy name is the module that it comes from; a string that is a
    module's full name, or begins as one, is one that is imported by name.
    """
    asked = set(attributes(tree))
    result = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            asked |= {part if part in TREES or part in LAZY else node.module for part in full}
        elif isinstance(node, ast.Constant) and node.value in TREES:
            asked.add(node.value)
        elif isinstance(node, ast.JoinedStr) and str(getattr(node.values[0], "value", "")).startswith("flipjax."):
            asked.add(node.values[0].value.rpartition(".")[0])
    for each in asked:
        home = LAZY.get(each, each)
        if home in TREES or not home.startswith("flipjax."):
            result.add(home)
    return result


def imports(name):
    """Full names of all that a module of flipjax imports."""
    return imports_of(TREES[name])


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("import flipjax\ndef f():\n    return flipjax.open_run('x').member", "flipjax.runs"),
        ("from flipjax import open_run", "flipjax.runs"),
        ("from flipjax.metrics import decompose", "flipjax.metrics.kernels"),
        ("from flipjax import metrics", "flipjax.metrics"),
        ("COMMAND = 'flipjax.sweep.__main__'", "flipjax.sweep.__main__"),
        ("importlib.import_module(f'flipjax.models.{name}')", "flipjax.models"),
    ],
    ids=["attribute", "lazy name", "lazy name of a folder", "module", "string", "formatted string"],
)
def test_an_import_is_seen_by_whatever_way(text, module):
    assert module in imports_of(ast.parse(text))


def test_command_lines_are_read_at_the_door_alone():
    readers = {name.rpartition(".")[2] for name in TREES if "argparse" in imports(name)}
    assert readers <= {"command", "__main__"}


def unit(name):
    """The module or folder at the top level that a module of flipjax belongs to."""
    return name.split(".")[1]


def test_imports_run_downward_and_not_in_a_ring():
    graph = {unit(name): set() for name in TREES if name != "flipjax"}
    assert graph.keys() == LEVELS.keys()
    for name in TREES.keys() - {"flipjax"}:
        others = {unit(other) for other in imports(name) if other.startswith("flipjax.")} - {unit(name)}
        assert not [other for other in others if LEVELS[other] > LEVELS[unit(name)]], name
        graph[unit(name)] |= others
    assert list(graphlib.TopologicalSorter(graph).static_order())


def compartment(name):
    """What a module of flipjax belongs to inside its package: its folder, or itself where it stands at the root.

    The root of a package holds its types and its public functions; folders use the types, and functions use folders.
    """
    package = name if name in PACKAGES else name.rpartition(".")[0]
    return name if package.count(".") < 2 else package


def others_of(name):
    """The modules of flipjax that a module imports, but for the packages that it lies in, which Python loads first."""
    return {other for other in imports(name) if other.startswith("flipjax.") and not name.startswith(f"{other}.")}


def test_files_import_not_in_a_ring():
    graph = {name: others_of(name) - {name} for name in TREES.keys() - {"flipjax"}}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_folders_import_not_in_a_ring():
    graph = {compartment(name): set() for name in TREES if name != "flipjax"}
    for name in TREES.keys() - {"flipjax"}:
        graph[compartment(name)] |= {compartment(other) for other in others_of(name)} - {compartment(name)}
    assert list(graphlib.TopologicalSorter(graph).static_order())


MOST_FILES = {"config": 16, "report": 16, "results": 16, "assays": 16}
"""The most modules of a folder that lists one thing after the other; of every other folder 12."""


def test_a_folder_holds_few_files():
    counts = collections.Counter(path.parent for path in FILES.values() if path.stem != "__init__")
    found = {folder.relative_to(ROOT / "flipjax").as_posix(): count for folder, count in counts.items()}
    assert {folder: count for folder, count in found.items() if count > MOST_FILES.get(folder, 12)} == {}


def test_what_the_lower_layers_import():
    allowed = {
        # JAX and NumPy for type checkers alone.
        "config": {"jax", "ml_collections", "numpy"},
        # All but JAX and NumPy when called alone: matplotlib by FlipMetric.plot, the others by the tables of segments.
        "metrics": {"jax", "matplotlib", "numpy", "pandas", "scipy"},
        "losses": {"jax"},
        "augment": {"jax"},
        "intervene": {"jax", "numpy", "scipy"},
    }
    for name in TREES.keys() - {"flipjax"} - OTHERS:
        others = {other.split(".")[0] for other in imports(name)} - sys.stdlib_module_names
        others -= {"flipjax", "lazy_loader"}
        assert not others & {"tensorflow", "torch"} and others <= allowed.get(unit(name), others), name


PLANS = "flipjax.config.plan, flipjax.config.reading"
MAINS = ", ".join(f"flipjax.{name}.__main__" for name in ("audit", "data", "models", "report", "sweep"))
DRY_RUN = "flipjax.sweep.description, flipjax.sweep.duration, flipjax.sweep.memory"
ABSENT = {
    "flipjax.__main__": "numpy flipjax.config.reading",
    "flipjax.metrics.summary.evaluate": "jax scipy",
    # So that --help answers within a second.
    f"{PLANS}, flipjax.evaluate.__main__, {MAINS}": "jax flax matplotlib scipy tensorflow_datasets",
    # Its own metrics among them.
    "flipjax.results, flipjax.audit.audit_files": "flax optax orbax matplotlib jinja2 PIL tensorflow_datasets torch",
    f"{DRY_RUN}, flipjax.sweep.run, flipjax.report.page": "tensorflow_datasets tensorflow torch",
}
"""Modules that an import must not load, in an order in which one process can import all modules."""


def test_an_import_loads_no_more_than_it_must():
    line = "import sys, {}; print(sys.modules.keys() & {{*{}}})"
    code = "\n".join(line.format(modules, absent.split()) for modules, absent in ABSENT.items())
    assert python(code).stdout.split() == ["set()"] * len(ABSENT)


@pytest.mark.parametrize("module", ["metrics", "losses", "augment", "intervene", "monitor", "training.epoch.sampling"])
def test_arrays_come_first_and_options_by_keyword(module):
    module = importlib.import_module(f"flipjax.{module}")
    named = dict(inspect.getmembers(module, inspect.isfunction))
    functions = {name: value for name, value in named.items() if value.__module__.startswith("flipjax.")}
    assert functions
    for name in [name for name in functions if name[0] != "_"]:
        parameters = inspect.signature(functions[name]).parameters
        free = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
        optional = [each for each in free if parameters[each].default is not inspect.Parameter.empty]
        assert optional == POSITIONAL.get(name, [])
        assert "rng" not in parameters and "key" not in free[1:], name


def exists(name):
    """Whether a name of the page is a file of the project, a key of a configuration, or a name below flipjax."""
    if "/" in name:
        return (ROOT / name).exists() or (not (ROOT / "sweeps").is_dir() and name.startswith("sweeps/"))
    if any(f"config.{key}.".startswith(f"{name}.") for key in (*PLACES, *WHOLE)):
        return True
    # A module, or a lazy name, may need a package that is not installed.
    if LAZY.get(f"flipjax.{name}", f"flipjax.{name}") in TREES:
        return True
    try:
        pkgutil.resolve_name(f"flipjax.{name}")
    except (ImportError, AttributeError):
        return False
    return True


def test_every_name_exists():
    pictures = re.findall(r"```\n(.*?)```", ARCHITECTURE, re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```\n.*?```", "", ARCHITECTURE, flags=re.S))
    nouns = re.findall(r"^ *([a-z]+(?:\.\w+)+) ", pictures[1], re.M)
    lines = re.findall(r"^ ([a-z_]+)(?: +([a-z]+))?(?: +([a-z]+))?  ", pictures[0], re.M)
    rooms = [room for line in lines for room in line if room]
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
        names = names_of(ast.parse(path.read_text()))
        assert [name for name in names if not exists(name.removeprefix("flipjax."))] == [], path
