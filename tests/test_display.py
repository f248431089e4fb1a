"""What a long command shows where the output is no terminal, or is gone."""

import io
import os
import re
from types import SimpleNamespace

import numpy as np

from flipjax import terminal
from flipjax.sweep.program import epoch_note
from flipjax.terminal import Bar
from flipjax.training.member import Status


def test_an_epoch_is_said_with_what_became_of_members_and_the_mean_of_finite_losses():
    program = SimpleNamespace(name="000", epochs=(4, 3))
    status = np.array([Status.RUNNING, Status.STOPPED, Status.DIVERGED])
    assert epoch_note(program, 1, status, np.array([0.5, 1.5, np.nan])) == (
        "program 000, epoch 1/4: 1 running, 1 stopped, 1 diverged; mean validation loss 1.0000"
    )
    assert epoch_note(program, 2, status[2:], np.array([np.inf])).endswith("1 diverged; mean validation loss -")


def test_the_time_left_leaves_out_the_first_call_and_what_is_skipped(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Bar("epochs", total=20, stream=stream) as bar:
        bar.skip(2)
        for seconds in (100, 40, 60):
            now[0] += seconds
            bar.advance(1, "one more")
        now[0] += 1
        bar.advance(1, "unsaid")
        bar.advance(14, last=True)
    assert stream.getvalue().splitlines() == [
        "[1:40] one more; time left known soon",
        "[2:20] one more; 10:40 left",
        "[3:20] one more; 12:30 left",
        "[3:21] 0:00 left",
    ]


# Of six members of correlation_grid at 32 px: seconds until training, then of each epoch, then until the page was done.
RECORDED = (50.6, (6.4, 6.2, 6.9, 6.7, 6.5, 8.4, 8.5, 7.3, 6.1, 6.2, 5.8, 7.3, 6.1, 5.2, 5.4), 27.9)


def test_the_time_left_is_right_within_half_after_one_epoch(monkeypatch):
    start, epochs, end = RECORDED
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with Bar("training", total=6 * len(epochs), stream=stream) as bar:
        now[0] += start
        bar.begin()
        now[0] += epochs[0]
        bar.advance(6)
    minutes, seconds = map(int, re.search(r"(\d+):(\d+) left", stream.getvalue()).groups())
    for whole in (sum(epochs[1:]), sum(epochs[1:]) + end):
        assert 1 / 1.5 < (60 * minutes + seconds) / whole < 1.5


def test_the_time_left_counts_from_the_first_epoch_and_the_starts_of_later_parts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Bar("epochs", total=40, parts=2, stream=stream) as bar:
        for start, seconds, count in ((60, 50, 10), (80, 20, 4)):
            now[0] += start
            bar.begin()
            for _ in range(2):
                now[0] += seconds
                bar.advance(count, last=True)
    # 10 items take 50 s, and the second part has as long a start as the first.
    assert stream.getvalue().split("\n")[:3] == ["[1:50] 3:30 left", "[2:40] 2:40 left", "[4:20] 1:20 left"]


def test_a_reader_who_is_gone_is_told_nothing_more_and_ends_nothing():
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as stream:
        for _ in range(3):
            terminal.say("still here", stream=stream)
