"""How a run was made, and its members one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

from flipjax.backend import differing_software
from flipjax.report.html import Numbers
from flipjax.report.run import Run
from flipjax.results.frames import records_of
from flipjax.results.quantities import title_of
from flipjax.results.text import COLUMNS, TextTable, varying_axes

MEMBER = ("fg_correct/all", "fg_flip/all", "fg_miss/all", *COLUMNS)
FIELDS = ("command", "started", "host", "device", "commit")


def made_of(run: Run) -> Numbers:
    """Returns what config.json says of the run: command, commit, device, time and versions."""
    facts = {key: value for key, value in run.config.items() if isinstance(value, str) and key != "name"}
    rows = [[key, facts[key]] for key in FIELDS if key in facts]
    sessions = run.config.get("sessions")
    sessions = [entry for entry in sessions if isinstance(entry, dict)] if isinstance(sessions, list) else []
    rows += _time(run, [entry for entry in sessions if "seconds" in entry])
    for number, session in enumerate(sessions[1:], start=2):
        others = differing_software([run.config], session)
        rows += [[f"start {number}, other software", others]] if others else []
    rows += [[key, value] for key, value in facts.items() if key not in FIELDS]
    rows = rows or [["nothing", "-"]]
    return Numbers("What config.json says of the run", TextTable(["fact", "value"], rows), words=True)


def _time(run: Run, sessions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Returns the wall time over all sessions, and the training images a second of it."""
    seconds = sum(float(entry["seconds"]) for entry in sessions)
    if not sessions or not seconds > 0:
        return []
    minutes, rest = divmod(round(seconds), 60)
    times = f" in {len(sessions)} sessions" if len(sessions) > 1 else ""
    rows = [["wall time", f"{minutes} min {rest} s{times}" if minutes else f"{seconds:.1f} s"]]
    images = len(run.history) * int(run.config.get("config", {}).get("split", {}).get("n_train", 0))
    return [*rows, ["training images a second", f"{images / seconds:,.0f}, all members"]] if images else rows


def members_table(run: Run) -> Numbers:
    """Returns a row a member: its axes, its end, and its main quantities on the test images."""
    axes = varying_axes(run.records, until="member")
    axes += ["rho"] if "rho" in run.records else []
    known = [name for name in MEMBER if name in run.records]
    records = records_of(run.records)
    values = [[record[name] for name in known] for record in records]
    texts = [[f"{value:.3f}" if value == value else "-" for value in row] for row in values]
    body = [
        [*(str(record[name]) for name in ("member", *axes, "status")), *row]
        for record, row in zip(records, texts, strict=True)
    ]
    blank: list[Any] = [None] * (2 + len(axes))
    exact = [blank + [repr(value) if value == value else None for value in row] for row in values]
    header = ["member", *axes, "status", *map(title_of, known)]
    return Numbers("All members, on the test images", TextTable(header, body), exact, folded=True, searched=True)
