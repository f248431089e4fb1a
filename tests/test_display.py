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
    assert "epoch 1/4: 1 running, 1 stopped, 1 diverged; mean validation loss 1.0000" in lines[0]
    assert lines[-1].endswith("1 stopped, 1 diverged, 1 finished; mean validation loss 0.2500; 0:00 left")
