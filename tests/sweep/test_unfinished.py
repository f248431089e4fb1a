"""A run that was interrupted is opened, reported and exported as far as it is."""

import faults
import numpy as np
import pytest

import flipjax
from flipjax.config import ConfigError
from flipjax.metrics import summarize
from flipjax.report.__main__ import main as report
from flipjax.results import load
from flipjax.results.export import main as export
from flipjax.results.export import to_tracker
from flipjax.sweep.checkpoint import member_weights

SENTENCE = "unfinished, 2 of 3 epochs; the same command continues"


class EndedError(Exception):
    """Ends a run as an interrupt does."""


def end_at(program, number):
    def end(epoch):
        if (epoch.program, epoch.number) == (program, number):
            raise EndedError

    return end


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one program that ended after two of three epochs."""
    place = tmp_path_factory.mktemp("unfinished") / "run"
    with pytest.raises(EndedError):
        flipjax.run(faults.whole_run()[1], workdir=place, on_epoch=end_at("000", 2))
    return place


def test_it_is_opened_with_its_curves_and_says_how_far_it_is(folder):
    run = flipjax.open_run(folder)
    assert SENTENCE in repr(run)
    whole = flipjax.open_run(faults.whole_run()[0])
    wanted = whole.history[whole.history["epoch"] <= 2]
    np.testing.assert_allclose(run.history.drop(columns="member"), wanted.drop(columns="member"), rtol=1e-5)
    assert run.members.to_dict("list") == {"rho": [0.5, 1.0], "status": ["unfinished"] * 2, "epochs": [2, 2]}
    with pytest.raises(FileNotFoundError, match=f"expected results; found a run that is {SENTENCE}$"):
        _ = run.results


def test_a_member_has_its_axes_and_the_network_that_its_rule_has_kept(folder):
    run = flipjax.open_run(folder)
    member = run.member("m001")
    assert (member.axes["rho"], member.status) == (1.0, "unfinished")
    history = run.history[run.history["member"] == "m001"]
    kept = history.loc[history["valid_loss"].idxmin()]
    model = member.model()
    val = member.images().val
    assert summarize(model.decompose(val.images, val.masks))["fg_flip"] == pytest.approx(kept["valid_flip"], abs=1e-6)
    stored = member_weights(folder / "checkpoints/000/2", 1, part="best/val_loss/weights")
    np.testing.assert_array_equal(model.weights.params["head"]["bias"], stored["params/head/bias"])
    with pytest.raises(ConfigError, match=r"^rule: expected one of val_loss; found last$"):
        member.model("last")


def test_its_page_has_its_curves_so_far(folder, capsys, without_pictures):
    assert report([str(folder)]) == 0
    assert f"run: {SENTENCE}." in capsys.readouterr().out
    page = (folder / "report/index.html").read_text()
    assert "Training curves" in page and SENTENCE in page
    # The page of the whole run is made anew.
    assert not (folder / "report/summary.txt").exists()


def test_its_history_is_exported(folder, tmp_path, capsys):
    assert export([str(folder), "--to", "csv", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert SENTENCE in said.err and said.out == f"{tmp_path}: history.csv\n"
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + 4


class Notes:
    """A tracker that keeps what it is sent."""

    identity = "run"

    def __init__(self):
        self.steps, self.results = [], []

    def open(self, member, identity):
        return self

    def log(self, measures, *, step):
        self.steps.append(step)

    def log_results(self, member):
        self.results.append(member.name)

    def end(self):
        self.steps.append("end")


def test_its_members_are_sent_to_a_tracker_without_results(folder):
    notes = Notes()
    to_tracker(load(folder), notes)
    assert notes.steps == [1, 2, 1, 2, "end", "end"] and not notes.results


def test_of_two_programs_the_finished_one_has_results(tmp_path, without_pictures):
    changes = {"axes.train.epochs": (1, 3), "axes.rho": (1.0,)}
    with pytest.raises(EndedError):
        flipjax.run(faults.whole_run()[1], changes, workdir=tmp_path / "run", on_epoch=end_at("001", 2))
    run = flipjax.open_run(tmp_path / "run")
    sentence = "unfinished, 1 of 2 members have results, the others 2 of 3 epochs; the same command continues"
    assert sentence in repr(run) and run.results["member"].unique().tolist() == ["m000"]
    assert run.history[["member", "epoch"]].values.tolist() == [["m000", 1], ["m001", 1], ["m001", 2]]
    assert run.member("m001").model().predict(run.member("m001").images().test.images).shape[1:] == (16, 16)
    assert f"The run is {sentence}." in run.report()
    again = flipjax.run(faults.whole_run()[1], changes, workdir=tmp_path / "run")
    assert again.unfinished is None and "unfinished" not in again.report()


def test_a_folder_in_which_nothing_was_trained_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a run folder with results"):
        flipjax.open_run(tmp_path)
