"""Says how many faults the suite notices: `python .ci/mutants.py [--sample 100] [--seed 0] [PACKAGE ...]`.

A mutant is flipjax with one small fault: a comparison turned, an operator exchanged, a condition negated or a number
changed. Each mutant of a seeded sample meets the tests that cover its line, by the contexts in `.coverage`, which
`make coverage` writes, or those that `--tests` names. It is killed if one of them fails. Each mutant is a copy of the
sources, so the tree stays as it is. Survivors are listed: each is an assertion that is missing, a line that nothing
needs, or equal in effect.
"""

import argparse
import ast
import dataclasses
import functools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import coverage

ROOT = pathlib.Path(__file__).parents[1]
KERNELS = (
    "metrics",
    "losses",
    "augment",
    "intervene",
    "training",
    "data/correlation.py",
    "data/seeded_order.py",
    "data/split.py",
    "results/statistics",
    "config",
)
"""Code that computes: metrics, training, the assignment of scenes, statistics, and configurations."""
COMMANDS = ("sweep", "audit", "assays", "report", "models")
"""The commands, their pages, and the networks."""
SAMPLES = {"kernels": KERNELS, "commands": COMMANDS}
MOST_TESTS = 60
"""Most tests that a mutant meets, taken in turn from each file that covers the line."""
LONGEST = 600
"""Seconds after which a mutant counts as killed: its tests no longer end."""
COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "+"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
CONNECTIVES: dict[type[ast.boolop], tuple[str, str]] = {ast.And: ("and", "or"), ast.Or: ("or", "and")}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A file with one fault."""

    path: pathlib.Path
    """The path of the file, below the root."""
    line: int
    begin: int
    """First byte that is replaced."""
    end: int
    """The byte behind the last one that is replaced."""
    text: str
    """The text that replaces the original."""
    change: str
    """A description of the fault, for readers."""


class Source:
    """A file whose nodes are found by bytes."""

    def __init__(self, path: pathlib.Path):
        """Reads a file below the root."""
        self.path = path
        self.data = (ROOT / path).read_bytes()
        self.tree = ast.parse(self.data)
        self._starts = [0]
        for line in self.data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Returns the first byte of a node and the byte behind its last."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        begin = self._starts[node.lineno - 1] + node.col_offset
        return begin, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, begin: int, end: int) -> str:
        """Returns the text between two bytes."""
        return self.data[begin:end].decode()

    def mutants(self) -> Iterator[Mutant]:
        """Yields the mutants of the bodies of functions; what a module sets has no tests of its line."""
        seen: set[ast.AST] = set()
        for function in ast.walk(self.tree):
            if isinstance(function, ast.FunctionDef):
                for statement in function.body:
                    for node in ast.walk(statement):
                        if node not in seen:
                            seen.add(node)
                            yield from self._of_node(node)

    def _of_node(self, node: ast.AST) -> Iterator[Mutant]:
        """Yields the mutant of a node, if it has one."""
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from self._exchanged(node, node.left, node.comparators[0], COMPARISONS[type(node.ops[0])])
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            yield from self._exchanged(node, node.left, node.right, OPERATORS[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            yield from self._exchanged(node, node.values[0], node.values[1], CONNECTIVES[type(node.op)])
        elif isinstance(node, ast.If | ast.IfExp):
            begin, end = self.span(node.test)
            condition = self.text(begin, end)
            yield Mutant(self.path, node.lineno, begin, end, f"(not ({condition}))", f"not ({condition})")
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            begin, end = self.span(node)
            changed = _other_number(node.value)
            yield Mutant(self.path, node.lineno, begin, end, changed, f"{node.value} -> {changed}")

    def _exchanged(self, node: ast.expr, left: ast.expr, right: ast.expr, pair: tuple[str, str]) -> Iterator[Mutant]:
        """Yields the mutant that has another sign between two operands."""
        begin, end = self.span(left)[1], self.span(right)[0]
        between = self.text(begin, end)
        there, instead = pair
        if there in between:
            text = between.replace(there, instead, 1)
            yield Mutant(self.path, node.lineno, begin, end, text, f"{there} -> {instead}")


def _other_number(value: object) -> str:
    """Returns the text of another number."""
    if isinstance(value, int):
        return str(value + 1)
    assert isinstance(value, float)
    return repr(value * 1.5 if value else 0.5)


def all_mutants(packages: tuple[str, ...]) -> list[Mutant]:
    """Returns the mutants of files and folders of flipjax, in the order of their places."""
    paths: list[pathlib.Path] = []
    for package in packages:
        place = ROOT / "flipjax" / package
        if place.is_dir():
            paths += sorted(place.rglob("*.py"))
        elif place.is_file():
            paths.append(place)
        elif place.with_suffix(".py").is_file():
            paths.append(place.with_suffix(".py"))
        else:
            sys.exit(f"mutants: expected a file or folder of flipjax, found {package}")
    return [mutant for path in paths for mutant in Source(path.relative_to(ROOT)).mutants()]


@functools.cache
def contexts_of(path: pathlib.Path) -> dict[int, list[str]]:
    """Returns the tests that ran each line of a file."""
    data = coverage.CoverageData(str(ROOT / ".coverage"))
    data.read()
    return data.contexts_by_lineno(str(ROOT / path))


def tests_of(mutant: Mutant, draw: random.Random) -> list[str]:
    """Returns the tests that a mutant meets: those that ran its line, at most MOST_TESTS, in turn from each file."""
    names = sorted({context.split("|")[0] for context in contexts_of(mutant.path).get(mutant.line, []) if context})
    draw.shuffle(names)
    by_file: dict[str, list[str]] = {}
    for name in names:
        by_file.setdefault(name.split("::")[0], []).append(name)
    chosen: list[str] = []
    while any(by_file.values()) and len(chosen) < MOST_TESTS:
        for waiting in by_file.values():
            if waiting and len(chosen) < MOST_TESTS:
                chosen.append(waiting.pop())
    return chosen


def outcome_of(mutant: Mutant, tests: list[str]) -> str:
    """Returns `killed`, `survived` or, where no test runs the line, `uncovered`."""
    if not tests:
        return "uncovered"
    with tempfile.TemporaryDirectory(prefix="flipjax-mutant-") as folder:
        copy = pathlib.Path(folder) / ROOT.name
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", ".git", "runs", "__pycache__", ".coverage"))
        data = (ROOT / mutant.path).read_bytes()
        (copy / mutant.path).write_bytes(data[: mutant.begin] + mutant.text.encode() + data[mutant.end :])
        line = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        # Before the installed flipjax.
        environment = os.environ | {"PYTHONPATH": str(copy)}
        try:
            done = subprocess.run(line, cwd=copy, env=environment, capture_output=True, text=True, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return "killed"
    if done.returncode in (1, 2):
        return "killed"
    if done.returncode == 0:
        return "survived"
    sys.exit(f"mutants: pytest ended with {done.returncode}\n{done.stdout}{done.stderr}")


def main() -> None:
    """Prints what becomes of each mutant, and the share that is killed."""
    parser = argparse.ArgumentParser(description="Says how many faults the suite notices.")
    parser.add_argument("packages", nargs="*", help="files or folders of flipjax; default: those of the two samples")
    parser.add_argument("--sample", type=int, default=100, help="mutants of each list of packages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", action="append", default=[], help="a file or folder of tests; repeat for several")
    options = parser.parse_args()
    if not options.tests and not (ROOT / ".coverage").is_file():
        sys.exit("mutants: expected .coverage, which `make coverage` writes, found none")
    samples = {"these": tuple(options.packages)} if options.packages else SAMPLES
    for name, packages in samples.items():
        draw = random.Random(options.seed)
        mutants = all_mutants(packages)
        sample = draw.sample(mutants, min(options.sample, len(mutants)))
        killed = 0
        for mutant in sample:
            outcome = outcome_of(mutant, options.tests or tests_of(mutant, draw))
            killed += outcome == "killed"
            print(f"{outcome:9} {mutant.path}:{mutant.line}  {' '.join(mutant.change.split())}", flush=True)
        print(f"mutants of {name}: {killed} of {len(sample)} killed, {killed / len(sample):.1%}", flush=True)


if __name__ == "__main__":
    main()
