"""Sphinx's configuration; `make docs` copies it beside the pages that `collect.py` gathers."""

import importlib.metadata
import re

project = "flipjax"
copyright = "the flipjax developers"
release = importlib.metadata.version("flipjax")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
]
html_theme = "furo"
html_title = f"flipjax {release}"
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["narrow.css"]

# Docstrings write code in single backticks, as optax's do.
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# From signatures, not from sources: `flipjax.assay` lists options that its source takes as `**options`.
autodoc_preserve_defaults = False
# The arguments of a class may be described at its __init__.
autoclass_content = "both"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "params_style")]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# Links to files of the repository that are no pages become downloads.
suppress_warnings = ["myst.xref_missing_download"]
# The notebook's outputs are those stored in it.
nb_execution_mode = "off"

exclude_patterns = ["_build"]
# Anchors that scripts make on the pages of others.
linkcheck_anchors = False


def escape_shapes(app, what, name, obj, options, lines):
    """Keeps the star of a shape such as (..., *spatial, C) from beginning an emphasis."""
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"(?<=[ (\[])\*(?=[a-z])", r"\\*", line)


ATTRIBUTES = {}
"""Docstrings of attributes, properties and constants, before napoleon takes what stands before a colon for a type."""


def with_titles(lines):
    """Returns the lines of a constant's docstring with its example as napoleon writes one."""
    titled = []
    in_example = False
    for line in lines:
        if line == "Example:":
            in_example = True
            titled += [".. rubric:: Example", ""]
        else:
            titled.append(line.removeprefix("    ") if in_example else line)
    return titled


def keep_attribute(app, what, name, obj, options, lines):
    """Remembers the docstring of an attribute, a property or a constant."""
    if what in ("attribute", "data", "property"):
        ATTRIBUTES[name] = with_titles(lines)


def restore_attribute(app, what, name, obj, options, lines):
    """Puts it back."""
    if name in ATTRIBUTES:
        lines[:] = ATTRIBUTES[name]


def drop_constructors(app, what, name, obj, options, lines):
    """Drops the line that Python writes into each NamedTuple's constructor."""
    lines[:] = [line for line in lines if not line.startswith("Create new instance of ")]


def setup(app):
    """Connects what Sphinx calls with each docstring, before and after napoleon."""
    app.connect("autodoc-process-docstring", drop_constructors, priority=350)
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)
    app.connect("autodoc-process-docstring", keep_attribute, priority=450)
    app.connect("autodoc-process-docstring", restore_attribute, priority=600)
