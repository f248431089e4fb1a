"""The design as rules that a machine reads: who imports whom, what an import costs, how functions are called."""

import ast
import graphlib
import importlib
import inspect
import pathlib
import sys

import pytest
from conftest import python

ROOT = pathlib.Path(__file__).parents[1] / "flipjax"
LAYERS = (
    ("support", "config", "methods", "groups", "identity", "backend", "command"),
    ("metrics", "losses", "augment"),
    ("intervene",),
    ("models", "data", "results"),
    ("context", "report", "plan"),
    ("training",),
    ("audit", "monitor", "sweep"),
    ("runs", "__main__"),
)
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units}
TORCH = "flipjax.metrics.torchmetric"
"""A class of torchmetrics, which nothing of flipjax imports."""
POSITIONAL = {"summarize": ["groups"]}  # As the contract writes it.


FILES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in FILES.items()}


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


def test_command_lines_are_read_at_the_door_alone():
    doors = {"flipjax.command", *(name for name in TREES if name.endswith("__main__"))}
    assert {name for name in TREES if "argparse" in imports(name)} <= doors


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


def test_what_the_lower_layers_import():
    allowed = {
        "config": {"ml_collections"},
        # All but JAX and NumPy when called alone: matplotlib by FlipMetric.plot, the others by the tables of segments.
        "metrics": {"jax", "matplotlib", "numpy", "pandas", "scipy"},
        "losses": {"jax"},
        "augment": {"jax"},
        "intervene": {"jax", "numpy", "scipy"},
        **{name: set() for name in ("methods", "plan")},
    }
    for name in TREES.keys() - {"flipjax", TORCH}:
        others = {other.split(".")[0] for other in imports(name)} - sys.stdlib_module_names - {"flipjax"}
        assert not others & {"tensorflow", "torch"} and others <= allowed.get(unit(name), others), name


MAINS = ", ".join(f"flipjax.{name}.__main__" for name in ("audit", "data", "models", "report", "sweep"))
ABSENT = {
    "flipjax.sweep.run, flipjax.sweep.dry_run, flipjax.report.page": "tensorflow_datasets tensorflow torch",
    "flipjax.plan, flipjax.report.page, flipjax.report.compare": "jax flax tensorflow_datasets",
    # Its own metrics among them.
    "flipjax.results, flipjax.audit.audits": "flax optax orbax matplotlib jinja2 PIL tensorflow_datasets torch",
    # So that --help answers within a second.
    f"flipjax.audit.context_command, flipjax.audit.evaluate, {MAINS}": "jax flax matplotlib scipy tensorflow_datasets",
}


@pytest.mark.parametrize(("modules", "absent"), ABSENT.items())
def test_an_import_loads_no_more_than_it_must(modules, absent):
    code = f"import sys, {modules}; print([name for name in {absent.split()} if name in sys.modules])"
    assert python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["metrics", "losses", "augment", "intervene", "monitor", "training.sampling"])
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
