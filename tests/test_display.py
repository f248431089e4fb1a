"""What a sweep shows where the output is no terminal."""

import io

import numpy as np

from flipjax.sweep.display import Display
from flipjax.training.member import Status


def test_stopped_and_diverged_members_give_back_their_epochs():
    stream = io.StringIO()
    with Display(total=12, stream=stream) as display:
        status = np.array([Status.RUNNING, Status.STOPPED, Status.DIVERGED])
        display.epoch("000", 1, 4, status, np.array([0.5, 1.5, np.nan]), freed=6)
        status = np.array([Status.FINISHED, Status.STOPPED, Status.DIVERGED])
        for epoch in (2, 3, 4):
            display.epoch("000", epoch, 4, status, np.array([0.25]), freed=0)
    lines = stream.getvalue().splitlines()
    assert "epoch 1/4: 1 running, 1 stopped, 1 diverged; mean validation loss 1.0000; at most " in lines[0]
    assert lines[-1].endswith("1 stopped, 1 diverged, 1 finished; mean validation loss 0.2500; 0:00 left")


def test_the_time_left_knows_compilations_that_were_and_those_to_come(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("flipjax.terminal.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    running = np.array([Status.RUNNING])
    with Display(total=20, programs=2, stream=stream) as display:
        for epoch, seconds in ((1, 100), (2, 10), (3, 10)):
            now[0] += seconds
            display.epoch("000", epoch, 10, running, np.array([0.5]), freed=0)
    left = [line.rpartition("; ")[2] for line in stream.getvalue().splitlines()]
    # Each epoch as long as the first one; then 18 of ten seconds and the second program's 90 seconds of compilation.
    assert left == ["at most 31:40 left", "4:30 left", "4:20 left"]
