"""Gathers the pages of the documentation into a folder: `python .ci/docs/collect.py FOLDER`.

The pages are the repository's own Markdown files, its notebook and figures, at their places, so that their links hold;
added are the index, an API reference of every public name, and an index of the studies.
"""

import ast
import importlib
import inspect
import itertools
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
GUIDES = (
    "flipjax/PYTORCH.md",
    "configs/README.md",
    "flipjax/sweep/README.md",
    "flipjax/data/README.md",
    "flipjax/metrics/README.md",
    "flipjax/audit/README.md",
    "flipjax/assays/README.md",
    "flipjax/monitor/README.md",
    "flipjax/PAPER.md",
    "flipjax/GLOSSARY.md",
    "flipjax/RELIABILITY.md",
)
PROJECT = ("flipjax/ARCHITECTURE.md", "sweeps/benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
SCRIPTS = ("sweeps/examples", "sweeps/clusters")
NOTEBOOK = "sweeps/examples/first_sweep.ipynb"
PACKAGES = (
    "flipjax",
    "flipjax.metrics",
    "flipjax.metrics.nnxmetric",
    "flipjax.metrics.statistics.intervals",
    "flipjax.losses",
    "flipjax.augment",
    "flipjax.data",
    "flipjax.data.correlation",
    "flipjax.data.seeded_order",
    "flipjax.intervene",
    "flipjax.runs",
    "flipjax.results",
    "flipjax.assays",
    "flipjax.tuning",
    "flipjax.audit",
    "flipjax.monitor",
    "flipjax.models",
    "flipjax.config",
    "flipjax.config.methods",
    "flipjax.config.groups",
    "flipjax.config.plan",
    "flipjax.config.checks",
    "flipjax.config.program",
    "flipjax.training",
    "flipjax.report",
    "flipjax.backend",
)
"""The packages and modules that have a page of the API reference."""
COPIED = (".md", ".ipynb", ".png", ".svg", ".csv", ".py", ".sh", ".yaml", ".sbatch", ".cff", ".toml")


def constants_of(module):
    """Returns the docstrings of the constants that a module describes, by name: strings that follow an assignment."""
    docstrings = {}
    for assignment, following in itertools.pairwise(ast.parse(inspect.getsource(module)).body):
        if isinstance(assignment, ast.Assign):
            target = assignment.targets[0]
        elif isinstance(assignment, ast.AnnAssign):
            target = assignment.target
        else:
            continue
        described = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if described and isinstance(target, ast.Name):
            docstrings[target.id] = inspect.cleandoc(following.value.value)
    return docstrings


def public_names(module):
    """Returns the public names of a module: those it lists, or else what it defines.

    These are its functions, its classes, and the constants that it describes.
    """
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    if hasattr(module, "__path__"):
        # The public names of a package without any of its own are its modules.
        parts = [part.name for part in pkgutil.iter_modules(module.__path__) if part.name != "__main__"]
        for part in parts:
            importlib.import_module(f"{module.__name__}.{part}")
        return sorted(parts)
    names = [name for name in constants_of(module) if name.isupper()]
    for name, value in vars(module).items():
        local = getattr(value, "__module__", None) == module.__name__
        if local and (inspect.isfunction(value) or inspect.isclass(value)):
            names.append(name)
    return sorted(name for name in names if not name.startswith("_"))


def home_of(module, name):
    """Returns the name of the module that defines a constant; a lazy package knows where its names come from."""
    stub = pathlib.Path(inspect.getfile(module)).with_suffix(".pyi")
    if stub.is_file():
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                return f"{module.__name__}.{node.module}"
    return module.__name__


def directive(kind, name, *options):
    """Returns the lines of a directive of Sphinx's autodoc."""
    return ["```{eval-rst}", f".. {kind}:: {name}", *(f"   :{option}:" for option in options), "```", ""]


def entry(module, name, described, page):
    """Returns the lines of a public name on a page; `described` maps objects to the page that has them."""
    value = getattr(module, name)
    if not (callable(value) and hasattr(value, "__name__")):
        # Tables hold functions, whose addresses say nothing.
        options = [] if isinstance(value, str | int | float) else ["no-value"]
        return directive("autodata", f"{home_of(module, name)}.{name}", *options)
    earlier = described.get(id(value))
    if earlier == page:
        return []
    if earlier is not None:
        return [f"`{name}`: see [{earlier}]({earlier}.md).", ""]
    described[id(value)] = page
    if inspect.isclass(value) and value.__name__ != name:
        # Autodoc says of a class under another name no more than that it is one.
        alias = [f".. py:class:: {module.__name__}.{name}", "", f"   Is the class `{value.__name__}` below."]
        lines = directive("autoclass", f"{value.__module__}.{value.__name__}")
        return ["```{eval-rst}", *alias, "```", "", *lines]
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    return directive(kind, f"{module.__name__}.{name}")


def section(module, heading, described, page):
    """Returns the reference of a module: its docstring, its modules, and an entry for each of its other names."""
    lines = [f"{heading} {module.__name__}", "", *directive("automodule", module.__name__, "no-members")]
    names = public_names(module)
    modules = [getattr(module, name) for name in names if inspect.ismodule(getattr(module, name))]
    paged = [part for part in modules if part.__name__ in PACKAGES]
    for part in paged:
        sentence = (inspect.getdoc(part) or "").splitlines()[0]
        lines.append(f"- [{part.__name__}]({part.__name__}.md): {sentence}")
    lines.append("")
    for name in names:
        if not inspect.ismodule(getattr(module, name)):
            lines += entry(module, name, described, page)
    for part in modules:
        if part not in paged:
            lines += section(part, f"{heading}#", described, page)
    return lines


def api_page(package, described):
    """Returns the page of a package; `described` maps objects to the page that has them."""
    return "\n".join(section(importlib.import_module(package), "#", described, package))


def first_line(path):
    """Returns the sentence with which a script begins: its docstring or comment."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip().lstrip('#"').strip()
        if text and not line.startswith("#!"):
            return text
    return ""


def folder_page(folder):
    """Returns a page that lists the scripts of a folder."""
    lines = [f"# {folder.name.capitalize()}", ""]
    for path in sorted(folder.iterdir()):
        if path.suffix in (".py", ".sh", ".sbatch", ".yaml"):
            lines.append(f"- [{path.name}]({path.name}): {first_line(path)}")
        elif path.suffix == ".ipynb":
            lines.append(f"- [{path.stem}]({path.name})")
    return "\n".join(lines) + "\n"


def with_pages(text, place, folder):
    """Returns a page whose links to a folder lead to the folder's page, and those to the README to the index."""

    def mended(match):
        path, _, anchor = match[1].partition("#")
        target = (place.parent / path).resolve()
        if target == folder / "README.md":
            path = str(pathlib.PurePosixPath(path).with_name("index.md"))
        elif path and target.is_dir() and (target / "README.md").is_file():
            path = f"{path.rstrip('/')}/README.md"
        return f"]({path}#{anchor})" if anchor else f"]({path})"

    return re.sub(r"\]\(((?!https?:)[^)\s]+)\)", mended, text)


def tree(title, pages, *, depth=1):
    """Returns a table of contents."""
    return "\n".join([f"```{{toctree}}\n:maxdepth: {depth}\n:caption: {title}\n", *pages, "```", ""])


def collect(folder):
    """Writes all pages into a folder."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if name.endswith(COPIED) and not name.startswith((".ci/", ".github/", "tests/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in ("LICENSE", "Makefile"):
        shutil.copy(ROOT / name, folder / name)
    here = pathlib.Path(__file__).parent
    shutil.copy(here / "conf.py", folder / "conf.py")
    (folder / "static").mkdir()
    shutil.copy(here / "narrow.css", folder / "static" / "narrow.css")
    for name in SCRIPTS:
        (folder / name / "README.md").write_text(folder_page(folder / name))
    (folder / "api").mkdir()
    described = {}
    for package in PACKAGES:
        (folder / "api" / f"{package}.md").write_text(api_page(package, described))
    pages = [f"{package} <api/{package}>" for package in PACKAGES]
    present = [name for name in (*GUIDES, *PROJECT) if (ROOT / name).is_file()]
    studies = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("sweeps/studies/*/README.md"))
    studies += sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("sweeps/benchmarks/*/README.md"))
    studies.append("sweeps/studies/PREDICTIONS.md")
    stems = {name: name.removesuffix(".md") for name in [*present, *studies]}
    index = [
        (folder / "README.md").read_text(),
        tree("Guides", [NOTEBOOK.removesuffix(".ipynb"), *(stems[name] for name in GUIDES if name in stems)]),
        tree("Studies", ["sweeps/README", *(stems[name] for name in studies)]),
        tree("Reference", pages),
        tree("Project", [*(f"{name}/README" for name in SCRIPTS), *(stems[name] for name in PROJECT if name in stems)]),
    ]
    for path in folder.rglob("*.md"):
        path.write_text(with_pages(path.read_text(), path, folder))
    text = with_pages("\n".join(index), folder / "index.md", folder)
    (folder / "README.md").unlink()
    (folder / "index.md").write_text(text)
    print(f"{len(list(folder.rglob('*.md')))} pages in {folder}")


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    collect(target)
