"""The monitor: thresholds by hand, the drift test against its definition, and the command line."""

import csv
import io
import json
import math
import os
import types

import numpy as np
import pytest
from scipy.stats import beta

from flipjax import metrics, monitor
from flipjax.files import DamagedError
from flipjax.monitor import inputs
from flipjax.monitor.__main__ import main
from flipjax.monitor.drift import BETS


def test_the_share_of_flagged_images_is_at_most_the_wanted_one():
    scores = np.arange(1, 41.0)
    # 41 places for a new image, of which floor(0.1 * 41) = 4 are above the 37th score.
    assert monitor.fit(scores, flag_rate=0.1).threshold == 37
    fitted = monitor.fit([np.nan, *scores])
    assert (fitted.threshold, fitted.without_region, len(fitted.scores)) == (39, 1, 40)


@pytest.mark.parametrize(
    ("scores", "options", "says"),
    [
        (np.zeros((2, 2)), {}, r"scores: expected \(n,\)"),
        ([1.0, np.inf], {}, "found 1 infinite"),
        (np.zeros(18), {}, "flag_rate: expected at least 0.0526 for 18"),
        (np.zeros(40), {"flag_rate": 1.0}, "flag_rate: expected a number in"),
        (np.zeros(40), {"flag_rate": 0.1, "risk": 0.1}, "found both"),
        (np.zeros(40), {"risk": 0.1}, "losses: expected"),
        (np.zeros(40), {"risk": 0.1, "losses": np.ones(40)}, "risk: expected"),
        (np.zeros(40), {"false_alarm": 0.0}, "false_alarm: expected"),
    ],
)
def test_what_cannot_be_fitted(scores, options, says):
    with pytest.raises(ValueError, match=says):
        monitor.fit(scores, **options)


def evidence(reference, scores, generator):
    """By definition: ranks by counting; a mixture over times of change and bets, each a product of densities."""
    ranks = []
    for t, score in enumerate(scores):
        others = np.concatenate([reference, scores[:t]])
        ties = generator.random() * ((others == score).sum() + 1)
        ranks.append(((others > score).sum() + ties) / (len(others) + 1))
    density = np.array([beta.pdf(ranks, a, b) for a, b in BETS])
    T = len(ranks)
    return 1 / (T + 1) + sum(density[:, t:].prod(1).mean() / ((t + 1) * (t + 2)) for t in range(T))


def test_evidence_by_its_definition():
    generator = np.random.default_rng(0)
    reference = generator.integers(0, 9, 30).astype(float)
    scores = generator.integers(2, 11, 12).astype(float)
    verdicts = list(monitor.watch(monitor.fit(reference), scores, seed=3))
    expected = [evidence(reference, scores[:n], np.random.default_rng(3)) for n in range(1, 13)]
    np.testing.assert_allclose([verdict.evidence for verdict in verdicts], expected)
    np.testing.assert_allclose([v.p_value for v in verdicts], 1 / np.maximum.accumulate([1, *expected])[1:])


def test_false_alarms_are_rare_and_drift_is_seen():
    generator = np.random.default_rng(0)
    draws = np.round(generator.normal(size=(60, 400)), 1)  # With ties.
    alarms = 0
    for draw in draws:
        fitted = monitor.fit(draw[:100], false_alarm=0.1)
        alarms += list(monitor.watch(fitted, draw[100:]))[-1].alarm
        changed = np.where(np.arange(300) < 150, draw[100:], draw[100:] + 1.5)
        verdicts = list(monitor.watch(fitted, changed))
        assert verdicts[-1].alarm and not verdicts[-1].p_value > 0.1
    assert alarms <= 6


def test_images_without_region_say_nothing():
    generator = np.random.default_rng(0)
    fitted = monitor.fit(generator.normal(size=50))
    scores = generator.normal(size=20)
    gaps = np.insert(scores, [0, 5, 20], np.nan)
    with_gaps = [verdict for verdict in monitor.watch(fitted, gaps) if not math.isnan(verdict.score)]
    assert with_gaps == list(monitor.watch(fitted, scores))
    assert not monitor.flag(fitted, [np.nan]).any()


def test_a_monitor_of_images_and_a_model():
    images = np.random.default_rng(0).normal(size=(70, 4, 4, 3)).astype(np.float32)
    fitted = monitor.fit(images, predict=lambda batch: 2 * batch)
    np.testing.assert_array_equal(fitted.scores, np.sort(np.asarray(metrics.flip_risk(2 * images), np.float64)))


def test_a_monitor_on_disk(tmp_path):
    path = tmp_path / "monitor.json"
    fitted = monitor.fit(np.random.default_rng(0).normal(size=30), flag_rate=0.2)
    monitor.save(fitted, path)
    loaded = monitor.load(path)
    np.testing.assert_array_equal(loaded.scores, fitted.scores)
    assert (loaded.threshold, loaded.false_alarm, loaded.reading) == (fitted.threshold, 0.01, None)
    text = path.read_text()
    for damaged in (text[:50], "[]", text.replace('"false_alarm": 0.01', '"false_alarm": 0.02'), "[" * 100_000):
        path.write_text(damaged)
        says = "values are not those" if "0.02" in damaged else "expected a monitor"
        with pytest.raises(DamagedError, match=rf"monitor\.json.*{says}"):
            monitor.load(path)
    with pytest.raises(DamagedError, match="a file of at most"):
        monitor.load(tmp_path)


@pytest.fixture
def fitted(tmp_path, capsys):
    """The file of a monitor with the scores 0..98 and a threshold of 94."""
    np.save(tmp_path / "scores.npy", np.arange(99.0))
    assert main(["fit", "--scores", str(tmp_path / "scores.npy"), "--out", str(tmp_path / "monitor.json")]) == 0
    assert "99 reference images" in capsys.readouterr().out
    return str(tmp_path / "monitor.json")


def watch(capsys, *arguments):
    """The exit code, the lines that were written, and what was said."""
    code = main(["watch", *map(str, arguments)])
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


def test_a_stream_of_lines(fitted, capsys, monkeypatch):
    lines = ['{"id": "a", "score": 12}', "", "{no", '{"id": "b", "score": null}', '{"score": 98}', '{"flip": 1}', "3"]
    lines += ['{"score": true}', '{"score": 1e999}', f'{{"score": 1{400 * "0"}}}', "[" * 10**5, f'"{"x" * (1 << 20)}"']
    lines += ['{"id": NaN, "score": 1}']
    stream = io.BytesIO("\n".join([*lines, '{"id": "last", "score": 0.5}']).encode() + b"\n\xff\n")
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=stream))
    code, answers, said = watch(capsys, fitted)
    assert code == 1
    assert [(row["id"], row["score"], row["flagged"]) for row in answers] == [
        ("a", 12, False),
        ("b", None, None),
        (5, 98, True),
        ("last", 0.5, False),
    ]
    assert set(answers[0]["drift"]) == {"evidence", "p_value", "alarm"}
    assert [f"line {number}: " in said for number in range(1, 16)] == [
        n in (3, 6, 7, 8, 9, 10, 11, 12, 13, 15) for n in range(1, 16)
    ]
    assert "4 images, 1 flagged, 1 without region, 10 unreadable; no drift alarm" in said


def test_the_alarm_and_what_was_written_read_again(fitted, tmp_path, capsys):
    path = tmp_path / "lines"
    path.write_text("".join(json.dumps({"id": i, "score": 90 + i / 100}) + "\n" for i in range(40)))
    code, answers, said = watch(capsys, fitted, "--in", path)
    alarms = [row["drift"]["alarm"] for row in answers]
    first = alarms.index(True)
    assert code == 0 and first > 0 and all(alarms[first:])
    assert f"drift alarm at image {first + 1} ({first})" in said
    path.write_text("".join(json.dumps(row) + "\n" for row in answers))
    assert watch(capsys, fitted, "--in", path)[1] == answers


@pytest.mark.usefixtures("interrupts")
def test_predictions_in_a_folder(tmp_path, capsys, monkeypatch):
    logits = np.random.default_rng(0).normal(size=(30, 3, 6, 7)).astype(np.float32)
    logits[4, 0] += 9  # No region.
    (tmp_path / "logits").mkdir()
    for index, image in enumerate(logits):
        np.save(tmp_path / "logits" / f"{index:02d}.npy", image)
    out = tmp_path / "monitor.json"
    assert main(["fit", "--logits", str(tmp_path / "logits"), "--out", str(out)]) == 0
    risk = np.asarray(metrics.flip_risk(np.moveaxis(logits, 1, -1)), np.float64)
    np.testing.assert_allclose(monitor.load(out).scores, np.sort(risk[~np.isnan(risk)]), rtol=1e-6)
    assert monitor.load(out).without_region == 1 and "1 more without region" in capsys.readouterr().out
    np.save(tmp_path / "logits" / "30.npy", np.zeros((4, 6, 7), np.float32))
    (tmp_path / "logits" / "31.npz").write_bytes(b"PK")
    np.savez(tmp_path / "logits" / "32.npz", logits[:2])
    code, answers, said = watch(capsys, out, "--in", tmp_path / "logits", "--once")
    assert code == 1 and "expected 3 classes on the first axis" in said and "31.npz" in said
    assert [row["id"] for row in answers][-3:] == ["29", "32:0", "32:1"] and answers[4]["score"] is None

    # A file is read when it has not changed between two looks; the third look never comes.
    looks = iter(
        [lambda: np.save(tmp_path / "logits" / "00.npy", logits[1]), lambda: None, lambda: os.kill(os.getpid(), 2)]
    )
    monkeypatch.setattr(inputs.time, "sleep", lambda _: next(looks)())
    code, again, _ = watch(capsys, out, "--in", tmp_path / "logits")
    assert code == 75 and len(again) == len(answers) and again[-1]["score"] == answers[1]["score"]


def test_a_risk_from_the_table_of_an_audit(tmp_path, capsys):
    with (tmp_path / "images.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["name", "flip_risk", "flip"])
        rows.writerows([["a", 0.1, 0.0], ["b", "", 0.0], ["c", 0.4, 1.0], ["d", 0.3, 0.5], ["e", 0.2, 0.0]])
    arguments = ["fit", "--scores", str(tmp_path / "images.csv"), "--out", str(tmp_path / "monitor.json")]
    assert main([*arguments, "--risk", "0.2"]) == 0
    fitted = monitor.load(tmp_path / "monitor.json")
    assert (fitted.threshold, fitted.without_region) == (0.3, 1)
    (tmp_path / "images.csv").write_text("name,flip_risk\na,much\n")
    capsys.readouterr()
    assert main(arguments) == 2 and "images.csv line 2: could not convert" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fit", "--out", "x"), "one of the arguments --scores --logits is required"),
        (("fit", "--scores", "scores.npy", "--out", "x", "--risk", "0.1"), "--risk: expected scores with losses"),
        (
            ("fit", "--scores", "scores.npy", "--out", "x", "--flag_rate", "0.001"),
            "--flag_rate: expected at least 0.01",
        ),
        (("fit", "--scores", "square.npy", "--out", "x"), "square.npy: expected scores"),
        (("fit", "--scores", "objects.npy", "--out", "x"), "pickled Python objects"),
        (("fit", "--scores", "none.csv", "--out", "x"), "none.csv: expected a file of scores"),
        (("fit", "--logits", "square.npy", "--out", "x"), "in floating point: class indices do not say"),
        (("fit", "--logits", "even.npy", "--out", "x"), "pass --channels first or --channels last"),
        (("watch", "monitor.json", "--in", "."), "--in: expected JSON lines, or a monitor fitted with --logits"),
        (("watch", "monitor.json", "--in", "nothing"), "nothing"),
        (("watch", "scores.npy"), "scores.npy: expected a monitor"),
        (("watch", "monitor.json", "--seed", "-1"), "--seed: expected a number >= 0"),
    ],
)
def test_usage(fitted, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    np.save("square.npy", np.zeros((20, 20)))
    np.save("even.npy", np.zeros((2, 3, 3, 3), np.float32))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("flipjax monitor: ") and says in line
