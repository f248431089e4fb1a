"""The API reference: a page for each public module, and an example, which is run, for each public name."""

import doctest
import importlib
import importlib.util
import inspect
import io
import pathlib
import re
import tokenize

import faults
import numpy as np
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

import flipjax
from flipjax.__main__ import main
from flipjax.config import reading
from flipjax.config.plan import plan
from flipjax.config.reading import configure
from flipjax.data import POOLS
from flipjax.report import page

ROOT = pathlib.Path(__file__).parents[1]
COLLECT = ROOT / ".ci/docs/collect.py"
if not COLLECT.is_file():
    pytest.skip("needs .ci/docs, which a source distribution lacks", allow_module_level=True)


def load_collect():
    """The script that gathers the pages."""
    spec = importlib.util.spec_from_file_location("collect", COLLECT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


collect = load_collect()
PAGES = {name: importlib.import_module(name) for name in collect.PACKAGES}


def names_of(module):
    """Public names of a module, without modules."""
    return [name for name in collect.public_names(module) if not inspect.ismodule(getattr(module, name))]


def sections_of(module):
    """The modules that stand on the page of a package, one after another."""
    for name in collect.public_names(module):
        part = getattr(module, name)
        if inspect.ismodule(part) and part.__name__ not in PAGES:
            yield part
            yield from sections_of(part)


def label(value):
    """The id of a test's case."""
    return value.__name__ if inspect.ismodule(value) else value


NAMES = [(module, name) for module in PAGES.values() for name in names_of(module)]
SECTIONS = [part for module in PAGES.values() for part in sections_of(module) if names_of(part)]


def home_of(module, name):
    """The module that defines a constant."""
    return importlib.import_module(collect.home_of(module, name))


def is_constant(module, name):
    return not callable(getattr(module, name))


CONSTANTS = [(module, name) for module, name in NAMES if is_constant(module, name)]


def docstring_of(module, name):
    """The text of a name's entry: of a class with its methods, of a constant what stands below it."""
    value = getattr(module, name)
    if is_constant(module, name):
        return collect.constants_of(home_of(module, name)).get(name, "")
    parts = [value]
    if inspect.isclass(value):
        members = vars(value).values()
        parts += [member for member in members if inspect.isroutine(member) or inspect.isdatadescriptor(member)]
    return "\n\n".join(inspect.getdoc(part) or "" for part in parts)


def examples_in(text):
    """What the examples of a docstring type."""
    return "\n".join(example.source for example in doctest.DocTestParser().get_examples(text))


def example_of(module, name):
    """The example of a name: its own, or that of another whose entry it points to, if it is there."""
    text = docstring_of(module, name)
    pointer = re.search(r"[Ss]ee `([\w.]+)\.(\w+)`\s+for an example", text)
    if examples_in(text) or pointer is None:
        return examples_in(text)
    other = examples_in(docstring_of(importlib.import_module(pointer[1]), pointer[2]))
    return other if name in other else ""


def test_every_public_module_has_a_page():
    values = [getattr(flipjax, name) for name in flipjax.__all__]
    assert {value.__name__ for value in values if inspect.ismodule(value)} <= PAGES.keys()


@pytest.mark.parametrize("module", PAGES.values(), ids=label)
def test_a_page_has_an_entry_for_every_public_name(module):
    page = collect.api_page(module.__name__, {})
    for part in [module, *sections_of(module)]:
        for name in names_of(part):
            assert f".{name}\n" in page


@pytest.mark.parametrize(("module", "name"), NAMES, ids=label)
def test_a_public_name_has_an_example(module, name):
    assert example_of(module, name)


@pytest.mark.parametrize("module", SECTIONS, ids=label)
def test_a_section_has_an_example(module):
    texts = [inspect.getdoc(module) or "", *(example_of(module, name) for name in names_of(module))]
    assert any(texts[1:]) or examples_in(texts[0])


# pytest runs the examples of functions, classes and modules.
@pytest.mark.parametrize(("module", "name"), CONSTANTS, ids=label)
def test_the_example_of_a_constant_is_true(module, name):
    home = home_of(module, name)
    test = doctest.DocTestParser().get_doctest(docstring_of(module, name), dict(vars(home)), name, home.__file__, 0)
    assert doctest.DocTestRunner().run(test) == doctest.TestResults(failed=0, attempted=len(test.examples))


# Sphinx's own napoleon reads options in this way.
@pytest.mark.filterwarnings("ignore:The mapping interface for autodoc options")
def test_sphinx_renders_every_public_name_without_a_warning(tmp_path):
    described = {}
    for package in collect.PACKAGES:
        directives = re.findall(r"```\{eval-rst\}\n(.*?)\n```", collect.api_page(package, described), re.DOTALL)
        (tmp_path / f"{package}.rst").write_text("\n\n".join([":orphan:", package, "=" * len(package), *directives]))
    (tmp_path / "index.rst").write_text("API\n===\n")
    settings = {
        # The other extensions read Markdown and copy sources.
        "extensions": ["sphinx.ext.autodoc", "sphinx.ext.napoleon"],
        "html_static_path": [],
    }
    warnings = io.StringIO()
    with docutils_namespace():
        app = Sphinx(
            srcdir=tmp_path,
            confdir=COLLECT.parent,
            outdir=tmp_path / "out",
            doctreedir=tmp_path / "doctrees",
            buildername="dummy",
            confoverrides=settings,
            status=None,
            warning=warnings,
        )
        app.build()
    assert len(app.env.found_docs) == len(collect.PACKAGES) + 1
    assert warnings.getvalue() == ""


PROMISES = (pathlib.Path(flipjax.__file__).parent / "RELIABILITY.md").read_text().splitlines()
TESTS_OF_PROMISES = {line.split("**")[1]: re.findall(r"`([\w/.]+\.py)`", line) for line in PROMISES if "| **" in line}


@pytest.mark.parametrize("names", TESTS_OF_PROMISES.values(), ids=TESTS_OF_PROMISES)
def test_a_promise_names_tests_that_are_there(names):
    assert names
    for name in names:
        assert (pathlib.Path(__file__).parent / name).is_file(), name


@pytest.fixture(scope="module")
def from_pytorch(tmp_path_factory):
    """The page *Coming from PyTorch*: an empty folder, and the names that its first lines make there of a tiny run."""
    folder = tmp_path_factory.mktemp("pytorch")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        use_a_tiny_run(patch)
        exec(FROM_PYTORCH.partition("```python\n")[2].partition("```")[0], names := {})
    return folder, names


def use_a_tiny_run(patch):
    """Lets smoke be a tiny configuration whose pool is drawn once, and writes no pages of runs."""
    patch.setattr(reading, "shipped_configs", lambda: {"smoke": faults.config_file()})
    patch.setitem(POOLS, "synthetic", faults.DRAWN)
    patch.setattr(page, "build_report", lambda folder: "")


@pytest.fixture
def names(from_pytorch, monkeypatch):
    """The same names, of which a line changes its own copy."""
    folder, made = from_pytorch
    monkeypatch.chdir(folder)
    use_a_tiny_run(monkeypatch)
    return made | {"config": configure(made["config"])}


FROM_PYTORCH = (ROOT / "flipjax/PYTORCH.md").read_text()
LINES = re.findall(r"^\| (?!in PyTorch|---)(.*?) \| .* \| `(.*)` \|$", FROM_PYTORCH, re.MULTILINE)


@pytest.mark.parametrize(("subject", "line"), LINES, ids=[subject for subject, _ in LINES])
def test_a_line_for_those_who_come_from_pytorch_runs(names, subject, line):
    for call, package in {"TorchFlipMetric": "torchmetrics", "model.torch()": "torch", "--track": "wandb"}.items():
        if call in line and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    if line.startswith("flipjax "):
        assert main([*line.split()[1:], "--dry_run"]) == 0
        return
    exec(line, names)
    plan(names["config"])


def test_a_run_is_followed_in_tensorboard(names):
    names["tensorboardX"] = pytest.importorskip("tensorboardX", reason="it is no dependency")
    exec(FROM_PYTORCH.split("```python\n")[2].partition("```")[0], names)
    names["writer"].close()
    (events,) = pathlib.Path("logs").iterdir()
    assert all(name in events.read_bytes() for name in (b"valid_flip/m000", b"valid_flip/m001"))


def test_the_page_for_those_who_come_from_pytorch_is_short():
    assert len(FROM_PYTORCH.split()) <= 500
    # But for the heads of three tables, two lines each, and the row that points to lines below, all rows are run.
    assert len(LINES) == FROM_PYTORCH.count("\n| ") - 7


def test_the_lines_of_the_readme_measure_given_logits():
    lines = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    # A background pixel, then a correct, a flipped and a missed one.
    exec(lines, names := {"logits": np.eye(3)[None, [[0, 1, 1, 0]]], "labels": np.array([[[0, 1, 2, 2]]])})
    assert names["decomposition"].confusion.tolist() == [[[1, 0, 0], [0, 1, 0], [1, 1, 0]]]


def test_the_lines_of_the_page_on_models_and_data_run():
    lines = (ROOT / "flipjax/metrics/README.md").read_text().partition("```python\n")[2].partition("```")[0]
    exec(lines, names := {})
    shares = names["decomposition"]
    np.testing.assert_allclose(shares.correct + shares.flip + shares.miss, 1)
    assert names["summary"].keys() >= {"fg_flip", "flip_image_mean"}


NO_ZERO = re.compile(r"""(?:^|[\s(\[,|])[-+]?\.\d+(?![\d]*[fge%])""")
"""A decimal without its zero; formats such as `,.2f` are none."""


def prose_of(path):
    """Lines of a page, or comments, docstrings and messages of a file of Python."""
    if path.suffix == ".md":
        return path.read_text().splitlines()
    with open(path, "rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    kinds = {tokenize.COMMENT, tokenize.STRING}
    return [token.string for token in tokens if token.type in kinds]


@pytest.mark.parametrize("folder", ["flipjax", "configs", "sweeps", "tests", "*.md"])
def test_decimals_have_their_zero(folder):
    paths = [path for root in ROOT.glob(folder) for path in (root, *root.rglob("*"))]
    found = []
    for path in paths:
        if path.suffix in {".md", ".py"}:
            found += [(path.name, match.group()) for text in prose_of(path) for match in NO_ZERO.finditer(text)]
    assert found == []
