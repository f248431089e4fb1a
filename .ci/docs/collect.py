"""Gathers the pages of the documentation into a folder: `python .ci/docs/collect.py FOLDER`.

The pages are the repository's own Markdown files, its notebook and figures, at their places, so that their links hold;
added are the index, an API reference of every public name, and an index of the studies.
"""

import importlib
import inspect
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
GUIDES = (
    "configs/README.md",
    "flipjax/data/README.md",
    "flipjax/assays/README.md",
    "flipjax/audit/README.md",
    "flipjax/monitor/README.md",
    "flipjax/sweep/README.md",
    "flipjax/PAPER.md",
    "flipjax/GLOSSARY.md",
)
PROJECT = ("flipjax/ARCHITECTURE.md", "sweeps/benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
SCRIPTS = ("sweeps/examples", "sweeps/clusters")
NOTEBOOK = "sweeps/examples/first_sweep.ipynb"
PACKAGES = (
    "flipjax",
    "flipjax.metrics",
    "flipjax.losses",
    "flipjax.augment",
    "flipjax.data",
    "flipjax.data.correlation",
    "flipjax.intervene",
    "flipjax.results",
    "flipjax.assays",
    "flipjax.audit",
    "flipjax.monitor",
    "flipjax.models",
)
"""The packages and modules whose public names form the API."""
COPIED = (".md", ".ipynb", ".png", ".svg", ".csv", ".py", ".sh", ".yaml", ".sbatch", ".cff", ".toml")


def public_names(package):
    """Returns the public names of a package: those it lists, or what a module defines."""
    module = importlib.import_module(package)
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    defined = []
    for name, value in vars(module).items():
        local = getattr(value, "__module__", None) == package
        if not name.startswith("_") and local and (inspect.isfunction(value) or inspect.isclass(value)):
            defined.append(name)
    return sorted(defined)


def api_page(package, described):
    """Returns the reference of a package, a directive for each public name; `described` maps objects to their page."""
    module = importlib.import_module(package)
    lines = [f"# {package}", "", (inspect.getdoc(module) or "").replace("`", "``"), ""]
    for name in public_names(package):
        value = getattr(module, name)
        if inspect.ismodule(value):
            continue
        if not isinstance(value, dict | tuple | str) and id(value) in described:
            lines += [f"`{name}`: see [{described[id(value)]}]({described[id(value)]}.md).", ""]
            continue
        described[id(value)] = package
        home = getattr(value, "__module__", None) or package
        directive = "autodata"
        if inspect.isclass(value):
            directive = "autoclass"
        elif callable(value) and hasattr(value, "__name__"):
            directive = "autofunction"
        else:
            home = package
        lines += ["```{eval-rst}", f".. {directive}:: {home}.{getattr(value, '__name__', name)}", "```", ""]
    return "\n".join(lines)


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
    shutil.copy(pathlib.Path(__file__).parent / "conf.py", folder / "conf.py")
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
