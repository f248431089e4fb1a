"""A plain page: one HTML file with relative links and nothing from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any, NamedTuple

from flipjax.results.text import Table

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title · flipjax</title>
<style>
:root { color-scheme: light dark; --ink: #222; --faint: #666; --line: #ddd; --page: #fff; --card: #f6f6f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e3; --faint: #a5a29e; --line: #3a3a3a; --page: #161616; --card: #202020; }
}
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--page);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.8rem; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
p, li { max-width: 46rem; }
ul { padding-left: 1.2rem; }
.faint, figcaption, caption { color: var(--faint); font-size: .875rem; }
.scroll { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
figure { margin: 1.75rem 0; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
figcaption { max-width: 46rem; margin-top: .4rem; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem; max-width: 46rem; }
pre { overflow-x: auto; padding: .75rem 1rem; background: var(--card); border-radius: 6px; font-size: .8rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="faint">$facts</p>
$findings
<h2>Tables</h2>
$tables
<h2>Figures</h2>
$figures
$details
<h2>Terms</h2>
<dl>
$terms
</dl>
<details><summary>Configuration</summary><pre>$config</pre></details>
</body>
</html>
""")


TERMS = {
    "rho": (
        "The share of a class's training images that show it in its usual scene. In the test set all four groups of "
        "class and scene are equally frequent."
    ),
    "common, rare": "Test images of a class in its usual scene, and in the other one.",
    "correct, flip, miss": (
        "Of the pixels whose true label is a foreground class, the shares predicted as that class, as another "
        "foreground class, and as background. They sum to 1. Spill is background predicted as foreground."
    ),
    "IoU gap": "A class's IoU in its common group minus that in its rare group; the mean of the two classes.",
    "flip-risk": (
        "The entropy (nats) of the foreground classes alone, averaged over the predicted foreground of an image. It "
        "needs no labels. Its AUROC says how well it ranks images with a flip share above 0.5; the top-decile share is "
        "the part of all flips that the riskiest tenth of the images holds."
    ),
}


class Shown(NamedTuple):
    """A figure on the page: the path of its file, relative to the page, its title and what it shows."""

    path: str
    title: str
    caption: str


def page(
    *,
    title: str,
    lines: Sequence[str],
    facts: Sequence[str],
    tables: Mapping[str, Table],
    shown: Sequence[Shown],
    terms: Sequence[str],
    config: Mapping[str, Any],
    details: Mapping[str, Table] | None = None,
) -> str:
    """Returns the page: what was found (`lines`), facts, tables by caption, figures, keys of TERMS, configuration.

    `details` are tables that come after the figures.
    """
    more = "\n".join(_table(caption, table) for caption, table in (details or {}).items())
    return PAGE.substitute(
        title=escape(title),
        facts="<br>".join(map(escape, facts)),
        findings="<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "\n</ul>" if lines else "",
        tables="\n".join(_table(caption, table) for caption, table in tables.items()),
        figures="\n".join(map(_figure, shown)),
        details=f"<h2>Details</h2>\n{more}" if more else "",
        terms="\n".join(f"<dt>{escape(name)}</dt><dd>{escape(TERMS[name])}</dd>" for name in terms),
        config=escape(json.dumps(config, indent=2, ensure_ascii=False)),
    )


def _table(caption: str, table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _figure(shown: Shown) -> str:
    source, text = escape(shown.path), escape(f"{shown.title}. {shown.caption}")
    return (
        f'<figure><a href="{source}"><img src="{source}" alt="{escape(shown.title)}" loading="lazy"></a>'
        f"<figcaption>{text}</figcaption></figure>"
    )
