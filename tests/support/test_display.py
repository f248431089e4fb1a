"""Progress of a long command where the output is no terminal, or is closed."""

import io
import os
import re
from types import SimpleNamespace

import numpy as np

from flipjax.support import terminal
from flipjax.support.terminal import Bar
from flipjax.sweep.train import epoch_note
from flipjax.training.member import Status


def test_an_epoch_is_said_with_what_became_of_members_and_the_mean_of_finite_losses():
    program = SimpleNamespace(name="000", epochs=(4, 3))
    status = np.array([Status.RUNNING, Status.STOPPED, Status.DIVERGED])
    said = epoch_note(
        program, 1, status, cross_entropy=np.array([0.5, 1.5, np.nan]), worst_group_iou=np.array([0.2, 0.4, 0.0])
    )
    states = "1 running, 1 stopped, 1 diverged"
    numbers = "cross-entropy 1.0000, worst-group IoU 0.300"
    assert said == f"program 000, epoch 1/4: {states}; mean validation {numbers}"
    said = epoch_note(program, 2, status[2:], cross_entropy=np.array([np.inf]), worst_group_iou=np.array([0.0]))
    assert said.endswith("1 diverged; mean validation -")


def test_the_time_left_leaves_out_the_first_call_and_what_is_skipped(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Bar(total=20, stream=stream) as bar:
        bar.skip(2)
        for seconds in (100, 40, 60):
            now[0] += seconds
            bar.advance(1, "one more")
        now[0] += 1
        bar.advance(1, "unsaid")
        bar.advance(14, last=True)
    first, *others = stream.getvalue().splitlines()
    assert first == "[01:40, time left known soon] one more"
    assert others == ["[02:20, 10:40 left] one more", "[03:20, 12:30 left] one more", "[03:21, 00:00 left]"]


def test_the_time_left_counts_from_the_first_epoch_and_the_starts_of_later_parts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Bar(total=40, parts=2, stream=stream) as bar:
        for start, seconds, count in ((60, 50, 10), (80, 20, 4)):
            now[0] += start
            bar.begin()
            for _ in range(2):
                now[0] += seconds
                bar.advance(count, last=True)
    # 10 items take 50 s, and the second part has as long a start as the first.
    assert stream.getvalue().split("\n")[:3] == ["[01:50, 03:30 left]", "[02:40, 02:40 left]", "[04:20, 01:20 left]"]


def test_a_terminal_has_one_line_of_progress_that_is_written_over():
    stream = io.StringIO()
    stream.isatty = lambda: True
    with Bar(total=2, stream=stream) as bar:
        bar.advance(1, "a" * 999)
        bar.say("said")
    first, said = re.split("[\r\n]+", stream.getvalue())[:2]
    assert first.startswith("[00:00, ") and len(first) == len(said) < 999 and said.rstrip() == "said"


def test_a_reader_who_is_gone_is_told_nothing_more_and_ends_nothing():
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as stream:
        for _ in range(3):
            terminal.say("still here", stream=stream)
