"""Ordinary files, made as their owners' tools make them: each is read as it is meant, or refused in a sentence.

`python tests/test_layouts.py` prints what an audit says of each, of whichever flipjax is imported.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import pytest
from layouts import images, tables, volumes
from layouts.audits import ask, misfit

LAYOUTS = [*images.LAYOUTS, *tables.LAYOUTS, *volumes.LAYOUTS]


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("layout", [pytest.param(layout, id=layout.name) for layout in LAYOUTS])
def test_a_layout_is_read_as_it_is_meant_or_refused(layout, tmp_path, capsys):
    if layout in volumes.LAYOUTS:
        pytest.importorskip("nibabel", reason="nibabel is no dependency")
    assert misfit(layout, ask(layout, tmp_path, lambda: capsys.readouterr().err)) == ""


def _print_all():
    """Prints a line a layout: what it is, whether that is right, and else what was said."""
    from flipjax.page import charts

    charts.draw_chart = lambda chart: {"svg": b""}
    for layout in LAYOUTS:
        errors = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            try:
                said = misfit(layout, ask(layout, Path(folder), errors.getvalue))
            except Exception as error:  # Printed, so that the test of this layout shows it.
                said = f"{type(error).__name__}: {error}"
            said = said.replace(folder, "")
        right = "refused" if isinstance(layout.expected, str) else "read"
        print(f"{layout.name} | {said or right}")
    sys.stdout.flush()


if __name__ == "__main__":
    _print_all()
