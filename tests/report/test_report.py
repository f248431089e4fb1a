"""The report of a run folder: its gallery, its figures and its page, on a tiny run made here; the paper's table."""

import dataclasses
import re

import numpy as np
import pytest
from conftest import GROUPS as MANY
from conftest import python
from matplotlib.figure import Figure
from results.tables import RECORDED
from run_folder import CLASSES, IMAGES, SETTINGS, counts_at, make_run

from flipjax.metrics import Decomposition, summarize
from flipjax.page import charts, gallery
from flipjax.page.document import Document, Numbers, Section, terminal_text
from flipjax.page.tables import TextTable
from flipjax.report import paper
from flipjax.report.__main__ import main
from flipjax.report.grid_panels import share_panels
from flipjax.report.page import build_report, findings
from flipjax.report.page_charts import flip_chart
from flipjax.report.scene_pull import pull_charts
from flipjax.results import load
from flipjax.results.rows import CLASSES_NOT_LEARNT, member_quantities
from flipjax.results.statistics import setting_tables
from flipjax.results.statistics.estimates import aggregate
from flipjax.support.frames import read_csv

FIGURES = {"flip", "gap", "shares", "coverage", "deciles", "flip_matrix", "training"}
TERMS = {"rho", "common, rare", "correct, flip, miss", "95% interval", "verdict", "classes not learnt", "IoU gap"}
TERMS |= {"flip-risk", "counterfactual pair", "scores of images", "risk-coverage"}


def chosen(confusion, risk, groups, pairs=None, **wanted):
    counts = Decomposition(confusion, np.array(risk))
    return [values.tolist() for values in gallery.choose_images(counts, np.array(groups), pairs, **wanted)]


def test_chosen_are_the_riskiest_and_typical_ones_spread_over_groups():
    confusion = np.zeros((9, 3, 3), int)
    confusion[:, 1, 1] = 10
    confusion[[2, 8], 1, 1] = 0  # No predicted foreground: no flip-risk.
    images = confusion, [6.0, 3.0, 9.0, 3.1, 0.1, 5.0, 1.0, 3.3, 0.0], [0, 0, 0, 0, 1, 1, 2, 3, 3]
    # From the median, 3.1, outwards: images 3, 1, 7, 6, 4; but image 1 is the second of its group.
    kinds = ["riskiest"] * 2 + ["typical"] * 5
    assert chosen(*images, riskiest=2, typical=5) == [[0, 5, 3, 7, 6, 4, 1], kinds]
    assert sorted(chosen(*images, riskiest=20, typical=20)[0]) == [0, 1, 3, 4, 5, 6, 7]


def test_chosen_are_the_pairs_whose_label_the_scene_changes_most():
    confusion = np.zeros((6, 3, 3), int)
    confusion[:, 1, 1] = [10, 0, 10, 8, 10, 10]
    confusion[:, 1, 2] = [0, 10, 0, 2, 0, 0]
    images = confusion, np.arange(6.0), [0] * 6, np.array([0, 0, 1, 1, -1, -1])
    assert chosen(*images, riskiest=0, typical=0, paired=1) == [[0, 1], ["pair 0", "pair 0"]]
    assert chosen(*images, riskiest=0, typical=0, paired=5)[0] == [0, 1, 2, 3]


def test_gallery_holds_what_the_member_made_of_its_images(tmp_path):
    labels = np.array([[[0, 1], [2, 1]]])
    predicted = np.array([[[0, 1], [1, 0]]])
    images = np.array([[[[0.0, 0.5, 1.0]] * 2] * 2])
    own = {"indices": [7], "groups": [3], "kinds": ["riskiest"], "member": "m"}
    made = gallery.make_gallery(images, labels, gallery.maps_of(np.eye(3)[predicted] * 9, labels), **own)
    gallery.save_gallery(tmp_path / "gallery.npz", made)
    read = gallery.load_gallery(tmp_path / "gallery.npz")
    assert read.image[0, 0, 0].tolist() == [0, 128, 255]
    assert read.error_map.tolist() == [[[0, 1], [2, 3]]]
    assert (read.prediction.tolist(), read.flip.tolist()) == (predicted.tolist(), pytest.approx([1 / 3]))
    assert [*zip(read.group, read.kind, read.member, strict=True)] == [(3, "riskiest", "m")]
    for name, array in made.arrays().items():
        stored = getattr(read, name)
        assert (stored.dtype, stored.shape) == (array.dtype, array.shape), name


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A run whose names are hard to show, with its report as it is made where JAX is not installed, and its text."""
    folder = tmp_path_factory.mktemp("grid") / 'a <grid>"><script>alert(1)'
    classes = ("background", "<img src=x onerror=alert(1)>", "\u202egnp.$x^$" + "a" * 200)
    config = {"name": "<i>grid", "command": "python -m flipjax.sweep --config x&y"}
    make_run(folder, classes=classes, config=config)
    code = "import sys; sys.modules.update(dict.fromkeys(['jax', 'jaxlib', 'flax', 'tensorflow_datasets']))\n"
    code += "import flipjax.config.plan, flipjax.report.compare; from flipjax.report.__main__ import main\n"
    return folder, python(f"{code}assert main([{str(folder)!r}]) == 0").stdout


@pytest.fixture
def sketched(monkeypatch):
    """The first and the last panel of a chart are drawn, and neither laid out nor written."""

    def sketch(chart):
        for panel in (chart.drawn[0], chart.drawn[-1]):
            panel.draw(Figure().subplots())
        return {"svg": b"", "png": b""}

    monkeypatch.setattr(charts, "draw_chart", sketch)


def files_of(folder):
    return {path: path.read_bytes() for path in (folder / "report").rglob("*") if path.is_file()}


def test_report_of_a_grid(grid):
    folder, printed = grid
    assert printed.startswith('a <grid>"><script>alert(1): 4 members: 4 finished.')
    first = files_of(folder)
    names = {"summary.csv", "trend.csv", "summary.md", "summary.tex", "index.html", "gallery.png"}
    names |= {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    assert names <= {path.name for path in first} and all(first.values())
    page = (folder / "report/index.html").read_text()
    assert "a &lt;grid&gt;" in page and "--config x&amp;y" in page and r"\u202egnp.$x^$" in page
    assert not [text for text in ("<script>alert", "<img src=x", "\u202e", CLASSES[1]) if text in page]
    for row in read_csv(folder / "results.csv").query("split == 'test' and group == 'rare'").to_dict("records"):
        cells = re.search(f"<bdi>{row['member']}</bdi>(.*?)</tr>", page, re.S)[1]
        assert re.findall("<td><bdi>(.*?)</bdi>", cells)[7] == f"{row['fg_flip']:.3f}"
    scores = read_csv(folder / "scores.csv")
    mean = scores[(scores["score"] == "mirror") & (scores["rho"] == 0.9)]["auroc_all"].mean()
    assert re.search(rf">mirror<.*?<td><bdi>{mean:.3f}", page, re.S)
    assert {*re.findall("<dt>(.*)</dt>", page)} == TERMS
    # The first screen: both images of a pair, and the chart of flip.
    front = page[page.index('class="front"') : page.index('id="results"')]
    assert front.count('class="pair"') == 2
    assert "One object in a usual" in front and "Flip of common and rare" in front
    # Nothing beside the page, and nothing from elsewhere.
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "settings",
    [
        [{"method": "ce", "rho": 0.5}, {"method": "ce", "rho": 0.9}, {"method": "ema", "rho": 0.9}],
        [{"method": "ce", "train.epochs": 2, "rho": 0.5}, {"method": "ema", "train.epochs": 3, "rho": 0.9}],
    ],
    ids=["a level of one method", "a level of each"],
)
def test_members_that_are_no_product_have_a_page(settings, tmp_path, sketched):
    make_run(tmp_path, [{**axes, "seed": 0} for axes in settings], stored=False)
    assert build_report(tmp_path)


def test_a_level_that_a_setting_lacks_has_no_bar(tmp_path):
    settings = [{"method": method, "rho": rho} for method, rho in (("ce", 0.5), ("ce", 0.9), ("ema", 0.9))]
    make_run(tmp_path, [{**axes, "seed": 0} for axes in settings], stored=False)
    texts = [panel.text for panel in share_panels(load(tmp_path).summary)]
    assert re.findall(r"(\d\.\d): correct", texts[0]) == ["0.5", "0.9"]
    assert texts[2].startswith("method ema") and re.findall(r"(\d\.\d): correct", texts[2]) == ["0.9"]


def test_a_report_is_made_again_only_of_other_results(tmp_path, without_pictures):
    make_run(tmp_path, SETTINGS[:1])
    text = build_report(tmp_path)
    made = [path.stat().st_mtime_ns for path in (tmp_path / "report").rglob("*")]
    assert build_report(tmp_path) == text and max(made) == (tmp_path / "report/summary.txt").stat().st_mtime_ns
    (tmp_path / "report" / "index.html").unlink()
    assert build_report(tmp_path) == text and (tmp_path / "report" / "index.html").is_file()
    make_run(tmp_path, SETTINGS[:1], shift=0.2)
    assert build_report(tmp_path) != text


def test_a_report_has_the_same_bytes_in_another_process(grid, monkeypatch):
    folder, before, draw = grid[0], files_of(grid[0]), charts.draw_chart

    def some_again(chart):
        if chart.name in ("flip", "deciles", "flip_matrix"):
            return draw(chart)
        return {kind: (folder / f"report/figures/{chart.name}.{kind}").read_bytes() for kind in ("svg", "png")}

    monkeypatch.setattr(charts, "draw_chart", some_again)
    build_report(folder, again=True)
    assert files_of(folder) == before


SMALL = {
    "one seed": [{"rho": rho, "seed": 0} for rho in (0.5, 0.9)],
    "no rho": [{"seed": seed, "method": method} for method in ("ce", "dro") for seed in (0, 1)],
    "one member": [{"seed": 0}],
}


@pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)
def test_report_of_small_runs(tmp_path, settings, sketched):
    make_run(tmp_path, settings)
    build_report(tmp_path)
    methods = len({axes.get("method") for axes in settings}) > 1
    assert (tmp_path / "report/comparison.csv").exists() == methods
    # One difference is no chart.
    assert not (tmp_path / "report/figures/methods.svg").exists()


def test_many_settings_are_mapped_and_few_of_them_shown_one_by_one(tmp_path, sketched, monkeypatch):
    monkeypatch.setattr(setting_tables, "MOST_SHOWN_SETTINGS", setting_tables.SAMPLED_SETTINGS)
    monkeypatch.setattr(setting_tables, "MOST_RESAMPLED_MEMBERS", 0)
    widths = range(setting_tables.SAMPLED_SETTINGS + 1)
    settings = [{"rho": rho, "seed": 0, "width": width} for rho in (0.5, 0.9) for width in widths]
    make_run(tmp_path, settings, config={"members": len(settings)})
    # The members that are not shown one by one are not missing.
    assert "have no results" not in build_report(tmp_path)
    whole = load(tmp_path).first_rule
    sample = setting_tables.sample_settings(whole)
    assert whole.means["width"].nunique() == len(widths)
    assert sample.means["width"].nunique() == setting_tables.SAMPLED_SETTINGS
    rare = "quantity == 'group/rare/fg_flip' and rho == 0.9"
    flips, shown = (tables.means.query(rare)["mean"] for tables in (whole, sample))
    assert (flips.min(), flips.max()) == (shown.min(), shown.max())
    assert {"settings.svg", "flip_rare.svg"} <= {path.name for path in (tmp_path / "report/figures").iterdir()}


def test_many_settings_without_rho_have_a_page(tmp_path, sketched, monkeypatch):
    monkeypatch.setattr(setting_tables, "MOST_SHOWN_SETTINGS", setting_tables.SAMPLED_SETTINGS)
    widths = range(setting_tables.SAMPLED_SETTINGS + 1)
    make_run(tmp_path, [{"seed": 0, "width": width} for width in widths])
    assert f"are {setting_tables.SAMPLED_SETTINGS} of {len(widths)} settings" in build_report(tmp_path)


def test_report_of_a_damaged_run_says_what_is_missing(tmp_path, capsys, without_pictures):
    make_run(tmp_path, SETTINGS[:1], config={"members": 6})
    assert main([str(tmp_path)]) == 2 and "expected the results of 6 members; found 1" in capsys.readouterr().err
    (tmp_path / "results.csv").unlink()
    assert main([str(tmp_path)]) == 0
    assert "5 of the 6 planned members have no results" in capsys.readouterr().out


def test_report_of_a_folder_that_is_none_ends_with_2(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2 and "nowhere" in capsys.readouterr().err


def counts_of_three(groups, *, rho, **_):
    """Counts of three classes in the scenes of MANY: at 0.9 every flip goes to the class whose scene it is."""
    image, y = np.arange(len(groups)), MANY.class_of(groups)
    usual = np.array([0, 1, 2, 1])[MANY.scene_of(groups)]
    confusion = np.zeros((len(groups), 4, 4), np.int32)
    for flipped in (1, 2):
        confusion[image, 1 + y, 1 + (y + flipped) % 3] = 10 * (rho < 0.5)
    confusion[image, 1 + y, 1 + usual] += 30
    return Decomposition(confusion, np.full(len(groups), 9.0, np.float32))


THREE = {"classes": ("background", "cat", "dog", "cow"), "scenes": ("land", "sea", "snow", "sand")}
THREE |= {"all_groups": MANY, "counts": counts_of_three}


def test_of_many_classes_the_page_says_where_flips_go(tmp_path, sketched):
    make_run(tmp_path, [{"rho": rho, "seed": seed} for rho in (0.25, 0.9) for seed in (0, 1)], **THREE)
    build_report(tmp_path)
    assert "pull of the scene" in (tmp_path / "report/summary.md").read_text()
    run = load(tmp_path)
    pulls = run.first_rule.means.query("quantity == 'scene_pull'")
    # Of 50 flipped pixels 40 go to the scene's class at 0.25; two rivals: 1/2 by chance.
    assert pulls[["rho", "mean", "n"]].to_numpy().tolist() == [[0.25, 0.8, 2], [0.9, 1.0, 2]]
    over_rho, matrix = pull_charts(run.first_rule)
    assert [panel.text for panel in matrix.panels] == ["rho 0.25: 80% in the frames.", "rho 0.9: 100% in the frames."]
    assert len(over_rho.panels) == 1 and "put 50% of all" in matrix.caption


def test_report_where_all_diverged_and_of_a_run_that_has_not_ended(tmp_path, capsys, sketched):
    make_run(tmp_path, SETTINGS[:2], status="diverged")
    assert "2 diverged" in build_report(tmp_path)
    assert "left out of all means" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "results.csv").unlink()
    assert main([str(tmp_path)]) == 0
    assert "the run has not ended" in capsys.readouterr().out
    assert "Missing data" in (tmp_path / "report" / "index.html").read_text()


GRID = [{"rho": rho, "seed": seed} for rho in (0.5, 0.9) for seed in range(5)]


def missed_by_one(groups, *, rho, seed):
    """Counts of `counts_at`, but the first member misses more than half of the object."""
    counts = counts_at(groups, rho=rho, seed=seed)
    if (rho, seed) == (0.5, 0):
        counts.confusion[:, 1:, 0] = 150 * (counts.confusion[:, 1:].sum(-1) > 0)
    return counts


def test_members_that_miss_the_object_are_said_first_and_make_no_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(setting_tables, "MOST_RESAMPLED_MEMBERS", 0)
    make_run(tmp_path, GRID, counts=missed_by_one)
    run = load(tmp_path)
    warning, first, *_ = findings(run)
    assert warning.startswith("Warning: 1 of the 10 members") and warning.endswith("rho=0.5_seed=0.")
    # A trend is paired by seed, and the page's tables lack the member, too.
    assert first.startswith("Flip in the rare groups rises") and "4 seeds" in first
    assert min(run.first_rule.trend["n"]) <= 4 and run.first_rule.means["left_out"].max() == 1


def guesses(groups, *, rho, seed, alone=False):
    """Counts of members that guess the class, or predict the first class `alone`."""
    shares = np.random.default_rng([seed, int(100 * rho)]).integers(40, 60, IMAGES)
    confusion = np.zeros((IMAGES, 3, 3), np.int32)
    image, label = np.arange(IMAGES), 1 + groups // 2
    confusion[:, 0, 0] = 400
    confusion[image, label, 1] = 100 if alone else shares
    confusion[image, label, 2] = 0 if alone else 100 - shares
    return Decomposition(confusion, np.full(IMAGES, 9.0, np.float32))


def test_members_that_guess_the_class_are_said_first_and_their_trends_have_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(setting_tables, "MOST_RESAMPLED_MEMBERS", 0)
    make_run(tmp_path, GRID, counts=guesses)
    assert set(read_csv(tmp_path / "results.csv")["status"]) == {CLASSES_NOT_LEARNT}
    assert set(load(tmp_path).results["status"]) == {CLASSES_NOT_LEARNT}
    run = load(tmp_path)
    warning, first, *_ = findings(run)
    assert warning.startswith("Warning: All 10 members have not learnt the classes: rho=0.5_seed=0, rho=0.5_seed=1")
    assert "rho=0.5_seed=4 (rho 0.5); rho=0.9_seed=0" in warning
    assert "at most 70% have the right class, where guessing gives 50%." in warning and "What helps: more" in warning
    assert "goes from" in first and first.endswith("no verdict: classes not learnt at rho 0.5 and at rho 0.9.")
    # They find the object, so that means hold them.
    assert run.first_rule.means["left_out"].max() == 0 and set(run.differences.trend["verdict"]) == {""}


def test_smoke_says_that_it_is_too_short_to_learn(tmp_path):
    make_run(tmp_path, SETTINGS, counts=guesses, config={"name": "smoke"})
    first, *_ = findings(load(tmp_path))
    assert first == "Warning: smoke trains 3 epochs, too short to learn; it shows that everything runs."
    make_run(tmp_path, SETTINGS, config={"name": "smoke"})
    assert not any(line.startswith("Warning") for line in findings(load(tmp_path)))


def test_a_class_that_a_member_never_predicts_is_named(tmp_path):
    make_run(tmp_path, SETTINGS[:2], counts=guesses, alone=True)
    said = findings(load(tmp_path))
    assert f"Warning: no test pixel is predicted as {CLASSES[2]} by rho=0.5_seed=0, rho=0.5_seed=1." in said


BAD = {
    "one seed": ([{"rho": rho, "seed": 0, "method": m} for m in ("ce", "dro") for rho in (0.5, 0.9)], {}),
    "one method": ([{"rho": 0.5, "seed": seed} for seed in range(4)], {}),
    "all diverged": (GRID, {"status": "diverged"}),
    "all unlearnt": (GRID, {"counts": guesses}),
    "all equal": (GRID, {"counts": lambda groups, *, rho, seed: counts_at(groups, rho=rho, seed=0)}),
    "no common seeds": ([{"rho": rho, "seed": s + int(9 * rho)} for rho in (0.5, 0.9) for s in range(4)], {}),
}
SAID = {
    "one seed": ["one seed: no verdict below 4 seeds."],
    "one method": [],
    "all diverged": ["No member enters a mean, so there are no findings."],
    "all unlearnt": ["Warning: All 10 members", "no verdict: classes not learnt at rho 0.5 and at rho 0.9."],
    "all equal": ["no verdict: all seeds are equal."],
    "no common seeds": ["No change from rho 0.5 to 0.9 is known: no seed has all levels."],
}


@pytest.mark.parametrize("case", BAD)
def test_where_there_can_be_no_verdict_a_page_says_why_and_nothing_warns(tmp_path, case, sketched, monkeypatch):
    monkeypatch.setattr(setting_tables, "MOST_RESAMPLED_MEMBERS", 0)
    settings, options = BAD[case]
    make_run(tmp_path, settings, **options)
    build_report(tmp_path)
    run = load(tmp_path)
    differences = run.differences
    for table in (differences.trend, differences.comparison, differences.selection):
        assert set(table["verdict"]) <= {""}
    lines = findings(run)
    for words in SAID[case]:
        assert any(words in line for line in lines), lines


def test_panels_of_one_dot_are_not_drawn(tmp_path, sketched):
    make_run(tmp_path, [{"rho": 0.9, "seed": seed} for seed in range(2)])
    build_report(tmp_path)
    drawn = {path.stem for path in (tmp_path / "report/figures").glob("*.svg")}
    assert drawn == {"shares", "coverage", "deciles", "flip_matrix", "training", "gallery"}


def test_of_one_level_of_rho_methods_stand_beside_each_other(tmp_path):
    make_run(tmp_path, [{"rho": 0.9, "seed": 0, "method": method} for method in ("ce", "dro")])
    tables = load(tmp_path).first_rule
    (panel,) = flip_chart(tables.means, tables.kept, note="").panels
    assert "in method ce" in panel.text and "in method dro" in panel.text


def test_the_title_is_the_folder_and_rho_has_three_digits_everywhere(tmp_path, sketched):
    folder = tmp_path / "mine"
    settings = [{"rho": rho, "seed": seed} for rho in (1 / 3, 2 / 3) for seed in (0, 1)]
    make_run(folder, settings, config={"name": "smoke"})
    assert build_report(folder).startswith("mine: 4 members")
    page = (folder / "report/index.html").read_text()
    assert "<h1>mine</h1>" in page and "nat per nat" not in page
    # The names of members are the run's.
    assert "0.333" in page and not re.search(r"(?<!rho=)0\.3333", page)
    assert "0.3333" not in (folder / "report/summary.md").read_text()


def test_a_terminal_gets_sentences_first_and_at_most_48_lines():
    table = TextTable(["rho", "flip, common " * 3, "flip"], [["0.5", "1" * 60, "2" * 60]] * 20)
    tables = [Section("Results", [Numbers(name, table) for name in ("first", "second")])]
    text = terminal_text(Document("run", ["fact"], ["word " * 30] * 20, tables, missing=["lost"] * 9))
    lines = text.splitlines()
    assert len(lines) <= 48 and lines[2].startswith("word") and lines[8:10] == ["14 more in summary.md", "lost"]
    assert lines.count("first") == 1 and "2" * 60 not in text
    assert "summary.md" in lines[-1] and lines[-1].endswith(" 2")


def test_two_runs_are_compared_by_seed(tmp_path, capsys, sketched):
    def compared(one, other):
        return main(["--compare", str(tmp_path / one), str(tmp_path / other), "--out", str(tmp_path / "out")])

    def make(folder, settings, width=8, **options):
        make_run(tmp_path / folder, settings, config={"name": folder, "config": {"model": {"width": width}}}, **options)

    make("a", [axes | {"method": "ce"} for axes in SETTINGS[1:3]])
    both = [*(axes | {"method": "ce"} for axes in SETTINGS), SETTINGS[0] | {"method": "dro"}]
    make("b", both, 16, shift=0.2)
    assert compared("a", "b") == 0
    rows = read_csv(tmp_path / "out/comparison.csv").query("quantity == 'group/rare/fg_flip'")
    assert rows[["rho", "n"]].to_numpy().tolist() == [[0.5, 1], [0.9, 1]]
    assert rows["difference"].iloc[0] == pytest.approx(0.2, abs=0.02)
    assert "model.width" in (tmp_path / "out/index.html").read_text()
    said = capsys.readouterr().out
    assert "same images" in said and "Compared: method ce rho 0.5 seed 1, method ce rho 0.9 seed 0.\n" in said
    assert "Only in b: method ce rho 0.5 seed 0, method ce rho 0.9 seed 1, method dro rho 0.5 seed 0" in said
    assert "b against a (method ce, rho 0.9): flip, rare +0." in said and "Only in a" not in said
    assert any(line.split()[:3] == ["run", "method", "rho"] for line in said.splitlines())
    make("d", [{"rho": 0.7, "seed": 5}])
    assert compared("a", "d") == 1


def test_the_table_holds_means_of_summaries_of_a_recorded_run(tmp_path, capsys):
    assert main(["--table", "paper", str(RECORDED), "--out", str(tmp_path)]) == 0
    assert all((tmp_path / f"paper{end}").is_file() for end in (".md", ".tex", "_deciles.svg", "_deciles.png"))
    table = read_csv(tmp_path / "paper.csv").set_index(["method", "rho"])
    (cell,) = load(RECORDED).cells.values()
    options = {"class_names": cell.class_names, "all_groups": cell.groups}
    members = read_csv(RECORDED / "results.csv").drop_duplicates("member")
    assert len(table) == 4 and set(table["seeds"]) <= {1, 2}
    for (method, rho), row in table[table["seeds"] == 2].iterrows():
        names = members["member"][(members["method"] == method) & (members["rho"] == rho)]
        groups = cell.images_of(cell.members[0], "test").group
        summaries = [summarize(cell.decomposition(name, "test"), groups, **options) for name in names]
        keys = {key: key for key in paper.TITLES}
        keys |= {f"{kind}/{i}": f"{kind}/{cell.class_names[i]}" for kind in ("iou", "gap") for i in (1, 2)}
        for column, key in keys.items():
            assert row[column] == pytest.approx(np.mean([each[key] for each in summaries]), abs=2e-6)


def test_encoders_of_one_run_have_rows_and_curves_of_their_own():
    run = load(RECORDED)
    rows = run.first_rule.rows.assign(status="finished")
    rows.insert(1, "model.name", np.where(rows["seed"] == 0, "smp_resnet50", "smp_mit_b2"))
    run.first_rule = dataclasses.replace(
        run.first_rule, rows=rows, members=member_quantities(rows), means=aggregate(rows)
    )
    assert set(paper.paper_means([run])["encoder"]) == {"resnet50", "mit_b2"}
    curves = paper.decile_curves([run])
    assert curves["synthetic"].count().to_dict() == {"resnet50": 10, "mit_b2": 10}
    _, _, last = (panel.text for panel in paper.decile_chart(curves, published=True).panels)
    assert last.startswith("waterbirds_seg, ") and "mit_b2, published: from 0.02 to 0.44" in last


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "two of birds, 0.5"), (THREE, "2 and 3 classes")],
    ids=["one setting", "other classes"],
)
def test_runs_that_no_table_can_hold_are_refused(tmp_path, capsys, options, words):
    make_run(tmp_path / "one", SETTINGS[:1], config={"name": "birds"})
    make_run(tmp_path / "other", SETTINGS[:1], config={"name": "birds"}, **options)
    runs = str(tmp_path / "one"), str(tmp_path / "other")
    assert main(["--table", "paper", *runs, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_table_and_a_comparison_are_not_made_at_once():
    assert main(["--table", "paper", "--compare", "a", "b"]) == 2
