"""The monitor: thresholds by hand, the drift test against its definition, and the command line."""

import contextlib
import io
import json
import math
import re
import shutil
import sys
import types

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, special
from scipy.stats import beta

from flipjax import monitor
from flipjax.monitor import drift
from flipjax.monitor.__main__ import main
from flipjax.monitor.drift import BETS
from flipjax.monitor.lines import read_table
from flipjax.support.files import DamagedError
from flipjax.support.process import begin_process

UNFIT = [
    (np.zeros((2, 2)), {}, "scores"),
    ([1.0, np.inf], {}, "scores"),
    (np.zeros(18), {}, "flag_rate: expected at least 0.0526, for 18"),
    (np.zeros(40), {"flag_rate": 1.0}, "flag_rate"),
    (np.zeros(40), {"flag_rate": 0.1, "risk": 0.1}, "flag_rate"),
    (np.zeros(40), {"risk": 0.1}, "losses"),
    (np.zeros(40), {"risk": 0.1, "losses": np.ones(40)}, "risk"),
    (np.zeros(40), {"false_alarm": 5e-324}, "false_alarm"),
    (np.zeros(40), {"losses": np.zeros(40), "risk": 2.0}, "risk"),
]


@pytest.mark.parametrize(("scores", "options", "named"), UNFIT)
def test_what_cannot_be_fitted(scores, options, named):
    with pytest.raises(ValueError, match=f"^{named}"):
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
    draws = np.round(np.random.default_rng(0).normal(size=(60, 400)), 1)  # With ties.
    alarms = np.zeros(2)
    for draw in draws:
        fitted = monitor.fit(draw[:100], false_alarm=0.1)
        streams = draw[100:], draw[100:] + 1.5 * (np.arange(300) >= 150)
        alarms += [list(monitor.watch(fitted, stream))[-1].alarm for stream in streams]
    assert alarms[0] <= 6 and alarms[1] == len(draws)


def test_images_without_foreground_rank_above_all():
    generator = np.random.default_rng(0)
    reference, stream = generator.normal(size=50), generator.normal(size=20)
    gaps = np.insert(stream, [0, 5, 20], np.nan)
    highest = list(monitor.watch(monitor.fit([*reference, 9.0]), np.nan_to_num(gaps, nan=9.0)))
    rare = list(monitor.watch(monitor.fit([*reference, np.nan]), gaps))
    assert [each[2:] for each in rare] == [each[2:] for each in highest]
    silent = list(monitor.watch(monitor.fit(reference), np.full(20, np.nan)))
    assert silent[-1].alarm and all(each.flagged for each in silent)


@pytest.mark.parametrize(("empty", "flagged"), [(2, True), (3, False)], ids=["rare", "frequent"])
def test_images_without_foreground_are_flagged_where_they_are_rare(empty, flagged):
    generator = np.random.default_rng(0)
    reference, stream = generator.normal(size=50), generator.normal(size=20)
    gaps = np.insert(stream, [0, 5, 20], np.nan)
    fitted = monitor.fit([*reference, *[np.nan] * empty])
    assert fitted.flags_empty == flagged
    assert [each.flagged for each in monitor.watch(fitted, gaps)] == monitor.flag(fitted, gaps).tolist()


def test_detection_by_counting():
    generator = np.random.default_rng(0)
    scores, losses = generator.random((2, 200))
    losses[:20] = scores[10:30] = np.nan
    fitted = monitor.fit(generator.random(100), flag_rate=0.3)
    found = monitor.detection(fitted, scores, losses)
    flagged, error = (scores > fitted.threshold) | np.isnan(scores), losses > 0.5
    known = ~np.isnan(losses)
    expected = flagged.mean(), error[flagged & known].mean(), flagged[error].mean()
    for (value, low, high), wanted in zip(found, expected, strict=True):
        assert value == pytest.approx(wanted) and 0 <= low < value < high <= 1
    nothing = monitor.detection(fitted, scores, np.full(200, np.nan))
    assert np.isnan([*nothing.precision, *nothing.recall]).all()


def test_a_monitor_on_disk(tmp_path):
    path = tmp_path / "monitor.json"
    # 41 places for a new image, of which floor(0.1 * 41) = 4 are above the 37th score.
    fitted = monitor.fit([np.nan, *range(1, 41)], flag_rate=0.1)
    assert (fitted.threshold, fitted.without_region, len(fitted.scores)) == (37, 1, 40)
    monitor.save_monitor(fitted, path)
    loaded = monitor.load_monitor(path)
    np.testing.assert_array_equal(loaded.scores, fitted.scores)
    assert (loaded.threshold, loaded.false_alarm, loaded.without_region) == (37, 0.01, 1)


DAMAGE = {
    "cut off": lambda text: text[:50],
    "a list": lambda text: "[]",
    "altered": lambda text: text.replace('"false_alarm": 0.01', '"false_alarm": 0.02'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_monitor_is_named(tmp_path, damage):
    path = tmp_path / "monitor.json"
    monitor.save_monitor(monitor.fit(range(40)), path)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(DamagedError, match=r"monitor\.json"):
        monitor.load_monitor(path)


FIT = "fit --scores scores.csv --out monitor.json"
# The delays that `fit` prints are soon measured where most streams alarm.
SOON = "--false_alarm 0.9"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder of scores.csv, 0..98, and monitor.json of these."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "scores.csv").write_text("score\n" + "\n".join(map(str, range(99))))
    with contextlib.chdir(folder):
        assert main(FIT.split()) == 0
    return folder


@pytest.fixture
def run(fitted, tmp_path, capsys, monkeypatch):
    """Runs the command beside scores.csv, 0..98, and monitor.json of these: code, what was printed, what was said."""

    def run_command(line, text=b""):
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(text)))
        code = main(line.split())
        return code, *capsys.readouterr()

    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return run_command


def test_a_monitor_is_replaced_by_another(run, tmp_path):
    (tmp_path / "scores.csv").write_text("score\n" + "\n".join(map(str, range(60))))
    code, printed, _ = run(f"{FIT} {SOON}")
    assert code == 0 and "monitor.json" in printed
    assert len(monitor.load_monitor(tmp_path / "monitor.json").scores) == 60


def test_a_stream_of_lines(run):
    lines = ['{"id": "a", "score": 12}', "", "{no", '{"id": "b", "score": null}', '{"score": 98}', '{"flip": 1}', "3"]
    lines += ['{"score": true}', '{"score": 1e999}', f'{{"score": 1{400 * "0"}}}', "[" * 10**5]
    lines += ['{"id": NaN, "score": 1}', '{"score": "1_000"}', '{"score": NaN}']
    last = {"id": "last", "score": 0.5, "region": 2, "max_softmax": 0.25}
    code, printed, said = run("watch monitor.json", "\n".join([*lines, json.dumps(last)]).encode() + b"\n\xff\n")
    answers = [json.loads(line) for line in printed.splitlines()]
    assert code == 1
    rows = [("a", 12, False), ("b", None, True), (5, 98, True), ("last", 0.5, False)]
    assert [(row["id"], row["score"], row["flagged"]) for row in answers] == rows
    assert set(answers[0]["drift"]) == {"evidence", "p_value", "alarm"}
    assert {name: answers[-1][name] for name in last} == last
    assert [int(n) for n in re.findall(r"line (\d+): ", said)] == [3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16]
    assert "4 images, 2 flagged, 1 without foreground, 11 unreadable; no drift alarm" in said


@pytest.mark.parametrize("regions", ["objects", "image"])
def test_scores_of_regions_are_means_over_their_pixels(regions):
    logits = np.random.default_rng(0).normal(size=(3, 6, 6, 5)) + 2 * np.eye(5)[np.zeros((3, 6, 6), int)]
    logits[2] = np.eye(5)[0]  # no region
    rows = []
    for image, pixels in enumerate(logits):
        labels = pixels.argmax(-1)
        found = ndimage.label(labels > 0, np.ones((3, 3)))[0] if regions == "objects" else labels > 0
        for number in range(1, found.max() + 1):
            own = pixels[found == number]
            risk = special.entr(special.softmax(own[:, 1:], 1)).sum(1).mean()
            label = np.bincount(labels[found == number]).argmax()
            rows.append((image, label, risk, risk / math.log(4), 1 - special.softmax(own, 1).max(1).mean()))
    scores = monitor.region_scores(logits.astype(np.float32), regions=regions)
    np.testing.assert_allclose(np.stack(scores, axis=1), rows, atol=1e-5)


def test_the_alarm_and_what_was_written_read_again(run):
    lines = "".join(json.dumps({"id": i, "score": 90 + i / 100}) + "\n" for i in range(40))
    code, printed, said = run("watch monitor.json", lines.encode())
    alarms = [json.loads(line)["drift"]["alarm"] for line in printed.splitlines()]
    first = alarms.index(True)
    assert code == 0 and first > 0 and all(alarms[first:])
    assert f"drift alarm at image {first + 1} ({first})" in said
    assert run("watch monitor.json", printed.encode())[1] == printed


def test_closed_streams(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    begin_process()  # As flipjax does first.
    assert main(["watch", "monitor.json"]) == 2 and "standard input: expected JSON lines" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", None)
    assert run("watch monitor.json", b'{"score": 1}\n')[0] == 0


def test_a_risk_from_the_table_of_an_audit_or_from_lines(run, tmp_path):
    table, out = tmp_path / "images.csv", tmp_path / "risk.json"
    table.write_text("name,flip_risk,flip\na,0.1,0.0\nb,,0.0\nc,4e-1,1\nd,0.3,0.5\ne,0.2,0.0\n")
    code, printed, _ = run(f"fit --scores images.csv --out risk.json --risk 0.2 {SOON}")
    assert code == 0 and re.search(r"fitted +0.3 +0.20 \[.*\] +1.00 \[.*\] +1.00", printed)
    fitted = monitor.load_monitor(out)
    assert (fitted.threshold, fitted.without_region) == (0.3, 1)
    rows = {"0.1": 0, "null": 0, "4e-1": 1, "0.3": 0.5, "0.2": 0}
    lines = [f'{{"score": {score}, "loss": {loss}}}' for score, loss in rows.items()]
    stored = out.read_bytes()
    from_lines = f"fit --scores - --out risk.json --risk 0.2 {SOON}"
    assert run(from_lines, "\n".join(lines).encode())[0] == 0 and out.read_bytes() == stored


@pytest.mark.parametrize("field", ["1_0", "\u0663", "nan"], ids=["underscore", "another script", "nan"])
def test_a_field_that_is_no_number_is_named(run, tmp_path, field):
    (tmp_path / "images.csv").write_text(f"name,flip_risk\na,1\nb,{field}\n")
    code, _, said = run("fit --scores images.csv --out other")
    assert code == 2 and f"images.csv: line 3: flip_risk: expected a number, found {field!a}" in said


def test_a_line_that_is_no_object_is_named(run):
    code, _, said = run("fit --scores - --out risk.json --risk 0.2", b'{"score": 1}\n3\n')
    assert code == 2 and "line 2: expected an object" in said


MISUSE = {
    "fit --scores scores.csv --out x --risk 0.1": "--risk: expected scores with losses",
    "fit --scores scores.csv --out x --flag_rate 0.001": "--flag_rate: expected at least 0.01",
    "fit --scores scores.csv --out scores.csv": "--out: expected a new file, or a monitor",
    "watch scores.csv": "scores.csv: expected a monitor",
}


@pytest.mark.parametrize(("line", "says"), MISUSE.items(), ids=["no losses", "too few", "its own input", "no monitor"])
def test_usage(run, tmp_path, line, says):
    table = (tmp_path / "scores.csv").read_bytes()
    code, _, said = run(line)
    assert code == 2 and said.splitlines()[-1].startswith("flipjax monitor: ") and says in said.splitlines()[-1]
    assert (tmp_path / "scores.csv").read_bytes() == table and not (tmp_path / "x").exists()


def test_clusters_are_ranked_by_their_means():
    """Of three images of a patient the mean is ranked, once the next patient begins."""
    fitted = monitor.fit(np.arange(40.0), clusters=np.repeat(np.arange(20), 2), flag_rate=0.1)
    np.testing.assert_array_equal(fitted.scores, np.arange(0.5, 40, 2))
    assert fitted.threshold == monitor.fit(np.arange(40.0), flag_rate=0.1).threshold
    alone = monitor.Monitor(fitted.scores, fitted.threshold)
    expected = [verdict.evidence for verdict in monitor.watch(alone, [2.0, 9.0])]
    patients, scores = ["a", "a", "a", "b", "c", "a"], [1.0, np.nan, 3.0, 9.0, 0.0, 50.0]
    found = [verdict.evidence for verdict in monitor.watch(fitted, scores, clusters=patients)]
    # The last image is of a patient who was ranked before: it ends c, and is left out.
    assert found[:5] == [1, 1, 1, expected[0], expected[1]] and found[5] != found[4]


def test_alike_images_of_a_patient_alarm_falsely_unless_they_are_clusters():
    generator = np.random.default_rng(0)
    alarms = {"alone": 0, "clusters": 0}
    for _ in range(20):
        patients = generator.normal(size=120)
        scores = np.repeat(patients, 5) + 0.1 * generator.normal(size=600)
        cluster = np.repeat(np.arange(120), 5)
        alone = monitor.fit(scores[:300])
        alarms["alone"] += list(monitor.watch(alone, scores[300:]))[-1].alarm
        together = monitor.fit(scores[:300], clusters=cluster[:300])
        alarms["clusters"] += list(monitor.watch(together, scores[300:], clusters=cluster[300:]))[-1].alarm
    assert alarms["alone"] >= 18 and alarms["clusters"] <= 2


@pytest.mark.parametrize("clusters", [None, ["a"]], ids=["needed", "not asked for"])
def test_clusters_of_the_stream_are_those_of_the_reference(clusters):
    fitted = monitor.fit(np.arange(40.0), clusters=None if clusters else np.arange(40))
    with pytest.raises(ValueError, match=r"^clusters: expected"):
        monitor.watch(fitted, [1.0], clusters=clusters)


FITTED = monitor.fit(np.arange(40.0), flag_rate=0.2)
MASKED = np.ma.masked_array(np.arange(40.0) / 40, np.arange(40) < 3)
NO_NUMBERS = {
    "fit": (lambda: monitor.fit(MASKED), "scores: expected an array, found a masked one"),
    "losses of fit": (lambda: monitor.fit(range(40), losses=MASKED, risk=0.5), "losses: .* found a masked one"),
    "clusters of fit": (lambda: monitor.fit(np.arange(40), clusters=MASKED), "clusters: .* found a masked one"),
    "flag": (lambda: monitor.flag(FITTED, MASKED), "scores: .* found a masked one"),
    "watch": (lambda: monitor.watch(FITTED, MASKED), "scores: .* found a masked one"),
    "delay": (lambda: monitor.alarm_delay(FITTED, MASKED), "scores: .* found a masked one"),
    "detection": (lambda: monitor.detection(FITTED, MASKED, np.zeros(40)), "scores: .* found a masked one"),
    "losses": (lambda: monitor.detection(FITTED, np.zeros(40), MASKED), "losses: .* found a masked one"),
    "complex losses": (lambda: monitor.detection(FITTED, [1.0], [1j]), "losses: expected real numbers"),
    "no losses": (lambda: monitor.detection(FITTED, [1.0], ["a"]), "losses: expected real numbers"),
    "losses above 1": (lambda: monitor.detection(FITTED, [1.0, 2.0], [np.nan, 7.0]), "losses: expected .* found 7"),
    "losses of others": (lambda: monitor.detection(FITTED, [1.0], [0.0, 1.0]), r"losses: expected \(1,\)"),
    "one score": (lambda: monitor.flag(FITTED, 1.0), r"scores: expected \(n,\), found shape \(\)"),
    "nothing": (lambda: monitor.flag(FITTED, None), r"scores: expected \(n,\), found shape \(\)"),
    "a table": (lambda: monitor.watch(FITTED, pd.DataFrame({"score": [1.0]})), r"scores: expected \(n,\), found shape"),
    "no scores": (lambda: monitor.alarm_delay(FITTED, []), "scores: expected at least one"),
    "regions of a row": (lambda: monitor.region_scores(np.zeros((4, 5, 3))), r"logits: expected \(B, H, W, C\)"),
    "regions of one class": (lambda: monitor.region_scores(np.zeros((1, 4, 5, 2))), "logits: expected two classes or"),
    "other axes": (
        lambda: monitor.region_scores(np.zeros((1, 4, 5, 3)), spatial_ndim=4),
        "spatial_ndim: expected 2 or 3",
    ),
    "a mapping": (lambda: monitor.flag(FITTED, {"a": 1}), "scores: expected an array, found a mapping"),
}


@pytest.mark.parametrize(("call", "message"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)


def test_a_score_or_loss_of_none_is_unknown():
    assert monitor.flag(FITTED, [None, 1.0]).tolist() == [FITTED.flags_empty, False]
    assert monitor.detection(FITTED, [39.0, 39.0], [None, 1.0]).precision[0] == 1


def test_a_change_is_seen_later_after_normal_images():
    fitted = monitor.fit(np.random.default_rng(0).normal(size=300))
    delays = [monitor.alarm_delay(fitted, fitted.scores + 1, before=before) for before in (0, 100, 500)]
    assert delays[0] < delays[1] <= delays[2] < 100


def lines_of(scores, **further):
    return "".join(json.dumps({"id": i, "score": score, **further}) + "\n" for i, score in enumerate(scores)).encode()


def test_a_restart_with_a_history_goes_on(run, tmp_path):
    normal = [37 * number % 99 for number in range(40)]
    whole = run("watch monitor.json", lines_of([*normal, *range(60, 99)]))[1].splitlines()
    command = "watch monitor.json --history seen.json"
    first = run(command, lines_of(normal))[1].splitlines()
    code, second, said = run(command, lines_of(range(60, 99)))
    drifts = [json.loads(line)["drift"] for line in [*first, *second.splitlines()]]
    assert code == 0 and "goes on after 40 images" in said
    assert drifts == [json.loads(line)["drift"] for line in whole]
    assert not drifts[39]["alarm"] and drifts[-1]["alarm"]


@pytest.mark.parametrize(
    "text", ["", "scores\n", '{"monitor": "another"}\n', "[1]\n"], ids=["empty", "text", "of another", "a list"]
)
def test_a_file_that_is_no_history_is_left(run, tmp_path, text):
    (tmp_path / "seen.json").write_text(text)
    code, printed, said = run("watch monitor.json --history seen.json", lines_of([1]))
    assert code == 2 and printed == "" and "seen.json: expected" in said
    assert (tmp_path / "seen.json").read_text() == text


def test_the_ids_of_patients_are_text(run, tmp_path):
    ids = ["007", "7", "1E2", "100", "12345678901234567", "12345678901234568"]
    table = "".join(f"{score},{name}\n" for score in range(10) for name in ids)
    (tmp_path / "patients.csv").write_text("score,patient\n" + table)
    code, _, _ = run(f"fit --scores patients.csv --clusters patient --flag_rate 0.2 --out patients.json {SOON}")
    assert code == 0 and len(monitor.load_monitor(tmp_path / "patients.json").scores) == 6


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("score;loss\n0.25;0\n0.5;1\n".encode("utf-8-sig"), id="semicolons"),
        pytest.param(b"Score;Loss\r\n0,25;0\r\n0,5;1\r\n", id="decimal commas"),
        pytest.param("score\tloss\n0.25\t0\n0.5\t1\n".encode("utf-16"), id="UTF-16"),
    ],
)
def test_scores_of_spreadsheets(tmp_path, content):
    (tmp_path / "scores.csv").write_bytes(content)
    assert [(image.score, image.loss) for image in read_table(tmp_path / "scores.csv")] == [(0.25, 0), (0.5, 1)]


def test_commas_that_may_divide_thousands_are_refused(run, tmp_path):
    (tmp_path / "scores.csv").write_text("score;name\n1,250;a\n2,500;b\n")
    code, _, said = run("fit --scores scores.csv --out other")
    assert code == 2 and "score: expected numbers with a decimal point, found '1,250'" in said


def test_clusters_on_the_command_line(run, tmp_path):
    table = "".join(f"{score},p{score // 3}\n" for score in range(99))
    (tmp_path / "patients.csv").write_text("score,patient\n" + table)
    code, printed, _ = run(f"fit --scores patients.csv --clusters patient --out patients.json {SOON}")
    assert code == 0 and "Median clusters (patient) until the drift alarm" in printed
    assert len(monitor.load_monitor(tmp_path / "patients.json").scores) == 33
    code, printed, said = run("watch patients.json", lines_of([1]) + lines_of([2, 3], patient="x"))
    assert code == 1 and len(printed.splitlines()) == 2 and "expected patient, which names" in said


def test_regions_of_volumes_are_connected_across_slices():
    logits = np.zeros((1, 3, 4, 4, 3), np.float32)
    logits[..., 0] = 1
    logits[0, :, 1, 1, 1] = 5
    logits[0, 2, 3, 3, 2] = 9
    scores = monitor.region_scores(logits, spatial_ndim=3)
    assert scores.label.tolist() == [1, 2] and scores.image.tolist() == [0, 0]
    one = monitor.region_scores(logits[:, 0], regions="objects")
    assert scores.flip_risk[0] == pytest.approx(one.flip_risk[0])
    whole = monitor.region_scores(logits, regions="image", spatial_ndim=3)
    assert len(whole.label) == 1 and whole.flip_risk[0] == pytest.approx(
        (3 * one.flip_risk[0] + scores.flip_risk[1]) / 4
    )


@pytest.mark.parametrize("rise", [0.0, 1.0, 3.0])
def test_a_delay_is_the_median_of_drift_tests_of_its_streams(monkeypatch, rise):
    monkeypatch.setattr(drift, "STREAMS", 5)
    # With ties, and a reference image that ranks above all.
    fitted = monitor.fit([*np.round(np.random.default_rng(1).normal(size=60), 1), np.nan], false_alarm=0.1)
    generator = np.random.default_rng(0)
    normal = generator.choice(fitted.scores, (5, 20))
    changed = generator.choice([*fitted.scores + rise, np.nan], (5, 100))
    delays = []
    for before, after in zip(normal, changed, strict=True):
        verdicts = monitor.watch(fitted, np.concatenate([before, after]))
        delays.append(next((place - 20 for place, verdict in enumerate(verdicts, 1) if verdict.alarm), np.inf))
    wanted = np.median([delay for delay in delays if delay > 0])
    assert monitor.alarm_delay(fitted, [*fitted.scores + rise, np.nan], before=20, longest=100) == wanted


def test_the_delay_is_that_of_many_streams():
    """The median of 401 streams is 52, 103 and 110 images; that of 21 was 52, 93 and 109."""
    fitted = monitor.fit(np.random.default_rng(0).normal(size=200))
    delays = [monitor.alarm_delay(fitted, fitted.scores + 0.5, before=before) for before in (0, 100, 1000)]
    np.testing.assert_allclose(delays, [52, 103, 110], rtol=0.06)
