"""The design as rules that a machine reads: who imports whom, what an import costs, how functions are called."""

import ast
import graphlib
import importlib
import inspect
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "flipjax"
LAYERS = (
    ("config", "identity", "methods", "groups", "ranges", "backend", "command", "files", "terminal", "threads"),
    ("metrics", "losses", "augment"),
    ("models", "data", "results"),
    ("training", "intervene", "context", "report", "plan"),
    ("audit", "monitor", "sweep"),
    ("__main__",),
)
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units}
TORCH = "flipjax.metrics.torchmetric"
"""A class of torchmetrics, which nothing of flipjax imports."""
POSITIONAL = {"summarize": ["groups"]}  # As the contract writes it.


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def imports(name):
    """Full names of all that a module imports, anywhere in its text; `from a import b` is a.b if that is a module."""
    result = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            result |= {part if part in TREES else node.module for part in full}
    return result


def unit(name):
    """The module or folder at the top level that a module of flipjax belongs to; the package itself is none."""
    return name.split(".")[1] if "." in name else ""


def test_every_module_has_a_place_in_the_layout():
    assert {unit(name) for name in TREES} - {""} == set(LEVELS)
    assert len(list(ROOT.glob("*.py"))) <= 14


def test_imports_run_downward():
    for name in TREES:
        for other in imports(name):
            if unit(name) and other.startswith("flipjax."):
                assert LEVELS[unit(other)] <= LEVELS[unit(name)], f"{name} imports {other}"


def test_parts_of_the_layout_do_not_import_each_other_in_a_ring():
    graph = {part: set() for part in LEVELS}
    for name in TREES:
        if name != "flipjax":
            graph[unit(name)] |= {unit(o) for o in imports(name) if o.startswith("flipjax.")} - {unit(name)}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_what_the_lower_layers_import():
    allowed = {
        "config": {"ml_collections"},
        # All but JAX and NumPy when called alone: matplotlib by FlipMetric.plot, the others by the tables of segments.
        "metrics": {"jax", "matplotlib", "numpy", "pandas", "scipy"},
        "losses": {"jax"},
        "augment": {"jax"},
        "intervene": {"jax", "numpy", "scipy"},
        "methods": set(),
        "ranges": set(),
        "plan": set(),
    }
    for name in TREES:
        others = {other.split(".")[0] for other in imports(name)} - sys.stdlib_module_names - {"flipjax"}
        assert not others & {"tensorflow", "torch"} or name == TORCH, name
        if name not in ("flipjax", TORCH):
            assert others <= allowed.get(unit(name), others), name


MAINS = ", ".join(f"flipjax.{name}.__main__" for name in ("audit", "data", "models", "report", "sweep"))
ABSENT = {
    "flipjax.metrics": "flax optax orbax tensorflow_datasets matplotlib tensorflow torch",
    "flipjax.sweep.run, flipjax.sweep.dry_run, flipjax.report.page": "tensorflow_datasets tensorflow torch",
    "flipjax.config, flipjax.plan, flipjax.methods": "jax flax",
    "flipjax.report.page, flipjax.report.compare": "jax flax tensorflow_datasets",
    "flipjax.audit.measure": "flax optax orbax matplotlib jinja2 PIL tensorflow_datasets tensorflow torch",
    # So that --help answers within a second.
    f"flipjax.audit.context_command, flipjax.audit.evaluate, {MAINS}": "jax flax matplotlib scipy tensorflow_datasets",
}


@pytest.mark.parametrize(("modules", "absent"), ABSENT.items())
def test_an_import_loads_no_more_than_it_must(modules, absent):
    code = f"import sys, {modules}; print([name for name in {absent.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_name_is_rng():
    names = {(name, arg.arg) for name, tree in TREES.items() for arg in ast.walk(tree) if isinstance(arg, ast.arg)}
    assert not [where for where, arg in names if arg == "rng"]


@pytest.mark.parametrize("module", ["metrics", "losses", "augment", "intervene", "monitor", "training.sampling"])
def test_arrays_come_first_and_options_by_keyword(module):
    module = importlib.import_module(f"flipjax.{module}")
    named = [(name, value) for name, value in inspect.getmembers(module, inspect.isfunction) if name[0] != "_"]
    functions = {name: value for name, value in named if value.__module__.startswith("flipjax.")}
    assert functions
    for name, function in functions.items():
        parameters = inspect.signature(function).parameters
        options = [p for p in parameters.values() if p.default is not p.empty]
        free = [p.name for p in options if p.kind is not p.KEYWORD_ONLY]
        assert free == POSITIONAL.get(name, []), name
        if "key" in parameters:
            assert parameters["key"].kind is inspect.Parameter.KEYWORD_ONLY or next(iter(parameters)) == "key", name


NOUNS = {"Its", "Rows", "Images", "Counts,", "Seconds", "Shapes", "Distances", "Logits", "Predictions", "Statistics"}


def test_docstrings_begin_with_an_indicative_verb():
    """As ruff's D401, which asks for the imperative; a property is what it returns."""
    first = [
        (name, node.name, docstring.split()[0])
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node))
        if not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert not [found for found in first if found[2] in NOUNS or not found[2].rstrip(".,:;").endswith("s")]


def test_files_are_short():
    long = {path.name: count for path in ROOT.rglob("*.py") if (count := len(path.read_text().splitlines())) > 320}
    assert not long
