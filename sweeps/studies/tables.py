"""The tables of the studies' pages: each function makes one, lines of Markdown, from the csv files of a folder."""

import functools

import numpy as np
import pandas as pd
from equivalence import two_one_sided_tests
from scipy.stats import t

from flipjax.page.tables import cut_interval
from flipjax.report.paper import PUBLISHED
from flipjax.results.learning import MOST_MISSED_SHARE
from flipjax.results.rows import CLASSES_NOT_LEARNT, NOT_LEARNT, kept_records, member_quantities
from flipjax.results.statistics.verdicts import differences_of
from flipjax.support.frames import level_text

MARGIN = 0.05
"""Change of foreground IoU that counts as none; fixed before the study of sixteen seeds."""
RATE = (0.0, 1.0)
CHANGE = (-1.0, 1.0)
LABELLED = "worst-group IoU, with group labels"
"""How a draw of a tuned method is chosen, in the study's tables."""
PHOTO_NETWORKS = {"frozen features": "frozen.csv", "pretrained": "pretrained.csv", "small U-Net": "results.csv"}
"""The tables of photos_grid, by network."""
UNBOUNDED = (-np.inf, np.inf)
COMMON, RARE, IOU = "group/common/fg_flip", "group/rare/fg_flip", "iou/foreground"


def markdown(heads, rows):
    """Returns a table as lines: text in the first column, numbers in the others."""
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return ["| " + " | ".join(map(str, row)) + " |" for row in (heads, rule, *rows)]


def mean(values, ends=RATE, *, form=".2f", interval=True):
    """Returns a mean over seeds as text, with Student's 95% interval, cut at the ends of a range."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    centre = values.mean()
    if not interval or len(values) < 2:
        return format(centre, form)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = np.clip([centre - half, centre + half], *ends)
    return format(centre, form) + cut_interval(low, centre, high, ends, form)


average = functools.partial(mean, interval=False)
change = functools.partial(mean, ends=CHANGE, form="+.2f")


def tested(folder, name="results.csv"):
    """Returns a row a member: its axes, status and quantities of the test images, by the first selection rule."""
    rows = pd.read_csv(folder / name, dtype={"group": str})
    records = member_quantities(rows[rows["selection"] == rows["selection"].iloc[0]])
    # results.csv says this of no member; a run's own page does.
    hardly_found = records["fg_miss"] > MOST_MISSED_SHARE
    return records.assign(status=records["status"].mask(hardly_found, NOT_LEARNT))


def paired(records, quantity, axis, value, reference):
    """Returns the differences of a quantity between two values of an axis, seed by seed."""
    wide = kept_records(records).pivot(index="seed", columns=axis, values=quantity)
    return (wide[value] - wide[reference]).dropna()


def learnt(records):
    """Returns how many of the members have learnt the classes, as text: 4 of 5."""
    return f"{(~records['status'].isin((CLASSES_NOT_LEARNT, NOT_LEARNT, 'diverged'))).sum()} of {len(records)}"


def by_rho(records, columns):
    """Returns a row for each level of rho: of each column a quantity and how it is shown."""
    rows = []
    for rho, members in kept_records(records).groupby("rho"):
        rows.append([level_text(rho), *(show(members[quantity]) for _, quantity, show in columns)])
    return markdown(["rho", *(head for head, _, _ in columns)], rows)


def correlation_levels(folder):
    """Flip, foreground IoU and what finds flips without labels, over rho; whether foreground IoU stays the same."""
    records = tested(folder)
    lowest = records["rho"].min()
    rows = []
    for rho, members in kept_records(records).groupby("rho"):
        same = ["", ""]
        if rho > lowest:
            test = two_one_sided_tests(paired(records, IOU, "rho", rho, lowest), margin=MARGIN)
            verdict = {True: "the same", False: "not shown"}[test.shown]
            same = [f"{test.mean:+.2f} [{test.low:+.2f}, {test.high:+.2f}]", verdict]
        risk = mean(members["group/rare/risk_auroc"])
        flips = [average(members[COMMON]), mean(members[RARE])]
        rows.append(
            [level_text(rho), *flips, *same, average(members["risk_auroc"]), risk, average(members["swap_auroc"])]
        )
    heads = ["rho", "Flip, common", "Flip, rare", "change of foreground IoU", f"within {MARGIN}", "flip-risk AUROC"]
    return markdown([*heads, "in rare groups", "scene-swap AUROC"], rows)


def correlation_changes(folder):
    """Changes from the lowest to the highest rho, with verdicts."""
    titles = {
        RARE: "Flip, rare",
        "gap/mean": "IoU gap",
        "worst_group_iou": "worst-group IoU",
        IOU: "foreground IoU",
        "risk_auroc": "flip-risk AUROC",
    }
    trends = differences_of(pd.read_csv(folder / "results.csv", dtype={"group": str})).trend.set_index("quantity")
    rows = []
    for quantity, title in titles.items():
        row = trends.loc[quantity]
        text = f"{row.difference:+.2f} [{row.low:.2f}, {row.high:.2f}]"
        rows.append([title, text, row.verdict or row.reason, f"{2 * row.n - row.unlearnt} of {2 * row.n}"])
    return markdown(["quantity", "change", "verdict", "members that learnt"], rows)


def methods_differences(folder):
    """Flip in the rare groups under cross-entropy, and each method's difference from it."""
    records = tested(folder)
    table = pd.read_csv(folder / "comparison.csv")
    table = table[table["quantity"] == RARE]
    levels = sorted(records["rho"].unique())
    first = kept_records(records[records["method"] == "ce"]).groupby("rho")[RARE]
    rows = [["ce: Flip, rare", *(average(first.get_group(rho)) for rho in levels), learnt_of(records, "ce")]]
    order = table[table["rho"] == 0.95].sort_values("difference")["method"]
    for method in order:
        cells = []
        for rho in levels:
            row = table[(table["method"] == method) & (table["rho"] == rho)].iloc[0]
            cells.append(difference(row, interval=rho == 0.95))
        rows.append([method, *cells, learnt_of(records, method)])
    rows += sgd_rows(folder, records)
    return markdown(["method", *(f"rho {level_text(rho)}" for rho in levels), "learnt at 0.5"], rows)


def sgd_rows(folder, records):
    """Returns rows of members trained by SGD, as differences from cross-entropy by Adam; none before they are made."""
    if not (folder / "sgd.csv").is_file():
        return []
    by_sgd = tested(folder, "sgd.csv")
    by_adam = records[records["method"] == "ce"].assign(method="Adam")
    rows = []
    for method in by_sgd["method"].unique():
        both = pd.concat([by_adam, by_sgd[by_sgd["method"] == method]])
        cells = []
        for rho, members in both.groupby("rho"):
            cells.append(change(paired(members, RARE, "method", method, "Adam"), interval=rho == 0.95))
        rows.append([f"{method}, SGD", *cells, learnt_of(by_sgd, method)])
    return rows


def difference(row, *, interval):
    """Returns a row of a judged comparison as text; a star is a verdict."""
    if not row.n:
        return "-"
    text = f"{row.difference:+.2f}"
    if interval and row.n > 1:
        text += f" [{row.low:+.2f}, {row.high:+.2f}]"
    star = "*" if isinstance(row.verdict, str) else ""
    return text + star


def learnt_of(records, method):
    """Returns how many members of a method have learnt the classes at the lowest rho."""
    return learnt(records[(records["method"] == method) & (records["rho"] == records["rho"].min())])


def methods_choices(folder):
    """What choosing a method by a rule loses against choosing it by labels of all groups."""
    table = pd.read_csv(folder / "method_regret.csv")
    rows = []
    for rule, found in table[table["selection"].str.startswith("least")].groupby("selection", sort=False):
        cells = dict.fromkeys(("worst_group_iou", "fg_flip"), "-")
        for row in found.itertuples():
            cells[row.quantity] = f"{row.regret:.2f} [{row.low:.2f}, {row.high:.2f}]"
        rows.append([rule, *cells.values()])
    return markdown(["rule", "worst-group IoU lost", "Flip added"], rows)


def jackknife(values, form=".2f", ends=UNBOUNDED):
    """Returns a mean of leave-one-out estimates with the jackknife's interval."""
    values = np.asarray(values)
    n = len(values)
    half = t.ppf(0.975, n - 1) * np.sqrt((n - 1) * values.var())
    low, high = np.clip([values.mean() - half, values.mean() + half], *ends)
    return format(values.mean(), form) + cut_interval(low, values.mean(), high, ends, form)


def photos_levels(folder, *, name):
    """Flip over pixels and over images, the top-decile share and flip-risk over rho, by cross-entropy."""
    records = tested(folder, name)
    columns = [
        ("Flip, rare", RARE, mean),
        ("Flip over images", "flip_image_mean", average),
        ("top-decile share", "top_decile_flip_share", mean),
        ("its ceiling", "top_decile_ceiling", average),
        ("flip-risk AUROC", "risk_auroc", mean),
        ("in rare groups", "group/rare/risk_auroc", average),
    ]
    return by_rho(records[records["method"] == "ce"], columns)


def photos_paper(folder):
    """The paper's mean Flip over images and top-decile share, of its deciles, with the share's highest ceiling."""
    del folder
    rows = []
    for (data_set, encoder), found in pd.read_csv(PUBLISHED).groupby(["dataset", "encoder"]):
        deciles = found.sort_values("decile")["mean_flip"].to_numpy()
        # At most one in each image of the last decile.
        ceiling = min(1.0, 1 / deciles.sum())
        rows.append(
            [f"{data_set}, {encoder}", f"{deciles.mean():.3f}", f"{deciles[-1] / deciles.sum():.2f}", f"{ceiling:.2f}"]
        )
    return markdown(["the paper, rho 0.95", "Flip over images", "top-decile share", "its ceiling, at most"], rows)


def photos_changes(folder):
    """Changes of Flip (rare) and foreground IoU from the lowest rho to 0.95, paired by seed."""
    rows = []
    for title, name in PHOTO_NETWORKS.items():
        records = tested(folder, name)
        records = records[records["method"] == "ce"]
        changes = [change(paired(records, quantity, "rho", 0.95, records["rho"].min())) for quantity in (RARE, IOU)]
        rows.append([title, *changes, learnt(records[records["rho"] == records["rho"].min()])])
    return markdown(["from rho 0.5 to 0.95", "Flip, rare", "foreground IoU", "learnt at 0.5"], rows)


def dose_fits(folder):
    """Weights of the log-odds of rho and of the log of the number of rare images, and R2 on the held-out seed."""
    fits = pd.read_csv(folder / "fits.csv")
    rows = []
    for model in ("rare images and rho", "rho", "rare images"):
        found = fits[fits["model"] == model]
        cells = ["" if found[name].isna().all() else jackknife(found[name]) for name in ("log_odds", "log_rare")]
        rows.append([model, *cells, jackknife(found["r2"], ends=(-np.inf, 1.0))])
    return markdown(["predictors", "log-odds of rho", "log of rare images", "R2"], rows)


def dose_changes(folder):
    """The claims on more data, at equal rho and at an equal number of rare images."""
    members = pd.read_csv(folder / "members.csv").assign(
        cell=lambda table: table["n_train"].astype(str) + " at " + table["rho"].astype(str)
    )
    pairs = [("128 at 0.8", "2048 at 0.8"), ("128 at 0.9", "2048 at 0.9"), ("128 at 0.95", "2048 at 0.95")]
    pairs += [("128 at 0.99", "2048 at 0.99"), ("128 at 0.8", "512 at 0.95")]
    wide = members.pivot(index="seed", columns="cell", values="rare")
    rows = [[first, last, change(wide[last] - wide[first])] for first, last in pairs]
    fits = pd.read_csv(folder / "fits.csv")
    both = fits[fits["model"] == "rare images and rho"]
    rows.append(
        ["weight of rare images", "weight of rho", jackknife(both["log_odds"].abs() - both["log_rare"].abs(), "+.2f")]
    )
    return markdown(["from", "to", "change"], rows)


def phase_fits(folder):
    """R2 on the held-out seed, and the members that learnt the classes."""
    fits = pd.read_csv(folder / "fits.csv").groupby(["model", "cue"])["r2"].mean().unstack()
    cues = list(fits.columns)
    models = [model for model in fits.index if model not in ("strength alone", "evidence, one curve for all cues")]
    rows = [[model, *(average([value]) for value in fits.loc[model])] for model in models]
    powers = pd.read_csv(folder / "fits.csv").groupby("cue")["power"].mean()
    rows.append(["fitted power of s", *(average([powers[cue]]) for cue in cues)])
    members = pd.read_csv(folder / "members.csv")
    rows.append(["members that learnt", *(learnt(members[members["cue"] == cue]) for cue in cues)])
    return markdown(["", *cues], rows)


def phase_flips(folder):
    """Flip in the rare groups at the weakest and the full strength, and context use where half flips."""
    members = pd.read_csv(folder / "members.csv")
    cells = [(0.5, 1.0), (0.95, 1.0), (0.99, 0.1), (0.99, 1.0)]
    rows = []
    for cue, found in members.groupby("cue"):
        flips = [average(found[(found["rho"] == rho) & (found["cue_strength"] == s)]["rare"]) for rho, s in cells]
        near = found[found["rare"].between(0.35, 0.65) & (found["rho"] > 0.5)]
        rows.append([cue, *flips, average(near["context_use"])])
    return markdown(["cue", *(f"rho {rho}, s {s}" for rho, s in cells), "context use"], rows)


def tuned_ranks(folder):
    """Flip in the rare groups of each method at the highest rho, untuned and tuned with group labels."""
    ranks = pd.read_csv(folder / "ranks.csv")
    ranks = ranks[ranks["rho"] == ranks["rho"].max()].set_index(["chooser", "method"])
    gains = pd.read_csv(folder / "comparison.csv")
    gains = gains[
        (gains["quantity"] == RARE) & (gains["selection"] == "untuned") & (gains["rho"] == gains["rho"].max())
    ]
    gains = gains.set_index("method")
    members = pd.read_csv(folder / "methods.csv")
    members = members[(members["rho"] == members["rho"].max()) & (members["chooser"] == LABELLED)]
    tuned = ranks.loc[LABELLED].sort_values("rare")
    rows = []
    for method, row in tuned.iterrows():
        gain = difference(gains.loc[method], interval=True)
        flips = [f"{ranks.loc[('untuned', method), 'rare']:.2f}", f"{row.rare:.2f}", gain]
        rows.append([method, *flips, f"{row.iou:.2f}", learnt(members[members["method"] == method])])
    return markdown(["method", "untuned, rho 0.95", "tuned", "gain", "foreground IoU", "learnt"], rows)


def classes_levels(folder):
    """Flip, pull and what finds flips, over rho."""
    columns = [
        ("Flip, common", COMMON, average),
        ("Flip, rare", RARE, mean),
        ("pull", "scene_pull", mean),
        ("flip-risk AUROC in rare groups", "group/rare/risk_auroc", mean),
        ("Flip, all", "fg_flip", average),
        ("after repair", "repair_flip", average),
    ]
    return by_rho(tested(folder), columns)


def classes_methods(folder):
    """Flip in the rare groups of each method at rho 0.95."""
    groups = kept_records(tested(folder, "methods.csv")).groupby("method")[RARE]
    rows = [
        [method, average(values), len(values)] for method, values in sorted(groups, key=lambda pair: pair[1].mean())
    ]
    return markdown(["method", "Flip, rare", "members"], rows)


def classes_many(folder):
    """Two usual scenes a class."""
    columns = [("Flip, rare", RARE, average), ("pull", "scene_pull", average)]
    return by_rho(tested(folder, "many.csv"), columns)


def mirror_flips(folder):
    """Flip after twenty-four epochs, by labels, mirroring and rho."""
    table = pd.read_csv(folder / "mirror_longer.csv")
    rows = []
    for (labels, hflip, rho), found in table[table["hflip"] > 0].groupby(["labels", "hflip", "rho"]):
        groups = (found[found["group"] == group]["fg_flip"] for group in ("common", "rare"))
        rows.append([labels, f"{hflip:g}", level_text(rho), *map(mean, groups)])
    return markdown(["labels", "hflip", "rho", "Flip, common", "rare"], rows)


def scale_use(folder):
    """Context use over rho, by what is trained."""
    members = pd.read_csv(folder / "members.csv")
    named = members["run"].map(
        {"base": "drawn grid", "photos": "photos_grid (cats, dogs)", "4x4": "4 classes, 4 scenes"}
    )
    named = named.fillna(members["method"].where(members["run"] == "methods"))
    sizes = members["split.n_train"].map(lambda n: f"{n:g} training images").where(members["run"] == "size")
    widths = members["model.width"].map(lambda w: f"width {w:g}").where(members["run"] == "width")
    members = members.assign(what=named.fillna(sizes).fillna(widths))
    rows = []
    for what, found in members.groupby("what", sort=False):
        cells = [average(found[found["rho"] == rho]["context_use"]) for rho in (0.8, 0.9, 0.95, 0.99)]
        rows.append([what, *cells, found["seed"].nunique()])
    return markdown(["", "rho 0.8", "0.9", "0.95", "0.99", "seeds"], rows)


def swap_gains(folder):
    """What scene swap finds more than entropy, and repairs, in two sets of seeds."""
    sets = {"10 to 13": tested(folder), "20 to 23": tested(folder, "fresh.csv")}
    rows = []
    for seeds, records in sets.items():
        for rho, members in kept_records(records).groupby("rho"):
            gain = change(members["swap_auroc"] - members["risk_auroc"])
            fall = change(members["repair_flip"] - members["fg_flip"])
            after = average(members["group/common/repair_flip"])
            rows.append([seeds, level_text(rho), gain, average(members["fg_flip"]), fall, after])
    heads = ["seeds", "rho", "gain of scene swap", "Flip", "change by repair", "Flip, common, after"]
    return markdown(heads, rows)


def monitor_delays(folder):
    """Median images until the alarm after a change, and the fraction of streams with one."""
    table = pd.read_csv(folder / "results.csv")
    table = table[(table["study"] == "drift") & (table["level"] == 0.01)]
    rows = []
    for change_of, found in table.groupby("scores", sort=False):
        cells = []
        for reference in (100, 1000):
            for test in ("martingale", "KS, Bonferroni"):
                row = found[(found["reference"] == reference) & (found["test"] == test)].iloc[0]
                delay = "-"
                if np.isfinite(row.delay):
                    delay = f"{row.delay:.0f}"
                cells.append(f"{delay} ({row.alarms:.2f})")
        rows.append([change_of.replace(" .", " 0."), *cells])
    return markdown(["change", "reference 100", "KS", "reference 1,000", "KS"], rows)


def monitor_clusters(folder):
    """False alarms where the images of a patient are alike."""
    table = pd.read_csv(folder / "clusters.csv")
    table = table[table["study"] == "no drift"].pivot(index="independent", columns="level", values="alarms")
    rows = [
        [name, *(f"{value:.3f}" for value in values)]
        for name, values in zip(table.index, table.to_numpy(), strict=True)
    ]
    return markdown(["what is ranked", "false alarms at 0.01", "at 0.05"], rows)


MODELS = ("ESPNetv2 2.0", "DiCENet 1.75", "ESPNetv2 1.0", "ESPNetv2 0.5")


def published(folder, split, quantities):
    """Quantities of the published models on one kind of photos."""
    table = pd.read_csv(folder / "results.csv").set_index(["split", "model", "quantity"]).loc[split]
    rows = []
    for quantity, title in quantities.items():
        cells = []
        for model in MODELS:
            row = table.loc[(model, quantity)]
            cells.append(f"{row.value:.2f}" + ("" if np.isnan(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"))
        rows.append([title, *cells])
    return markdown(["", *MODELS], rows)


def published_photos(folder):
    """On VOC-val."""
    quantities = {
        "SegFlip": "SegFlip",
        "beta": "beta",
        "context use": "context use",
        "SceneFlip, log-odds": "SceneFlip, nats",
        "AUROC of flip_risk, within strata": "flip-risk, AUROC",
        "AUROC of swap_quota less flip_risk, within strata": "scene swap less it",
        "right regions, repair with quota less plain": "change by repair",
    }
    return published(folder, "val", quantities)


def published_composites(folder):
    """On cats and dogs pasted on forest and sea."""
    quantities = {
        "composites, forest and sea: right, repair with quota less plain": "change by repair",
        "composites, forest and sea: AUROC of scene swap (quota) less flip-risk": "scene swap less flip-risk",
    }
    return published(folder, "composites", quantities)


def benchmark_entries(folder):
    """Flip of each entry at rho 0.95, with two and with four classes; a star is a verdict."""
    table = pd.read_csv(folder / "results.csv", dtype={"verdict": str}).fillna({"verdict": ""})
    table = table[table["rho"] == 0.95].set_index(["form", "entry"])
    rows = []
    for entry in dict.fromkeys(table.index.get_level_values("entry")):
        cells = []
        for form in ("2 x 2", "4 x 4"):
            flip = ""
            if (form, entry) in table.index:
                row = table.loc[form, entry]
                star = "*" if row["verdict"] else ""
                interval = cut_interval(row["low"], row["flip_rare"], row["high"], RATE, ".2f")
                flip = f"{row['flip_rare']:.2f}{star}{interval}"
            cells.append(flip)
        rows.append([entry.removeprefix("U-Net, "), *cells])
    return markdown(["entry, rho 0.95", "2 x 2", "4 x 4"], rows)


TABLES = {
    "correlation_grid": {
        "levels": correlation_levels,
        "changes": correlation_changes,
    },
    "methods_grid": {"differences": methods_differences, "choices": methods_choices},
    "photos_grid": {
        "changes": photos_changes,
        "paper": photos_paper,
        "frozen": functools.partial(photos_levels, name="frozen.csv"),
        "pretrained": functools.partial(photos_levels, name="pretrained.csv"),
    },
    "dose": {"fits": dose_fits, "changes": dose_changes},
    "phase_diagram": {"flips": phase_flips, "fits": phase_fits},
    "tuned_methods": {"ranks": tuned_ranks},
    "classes": {"levels": classes_levels, "methods": classes_methods, "many": classes_many},
    "mirror": {"flips": mirror_flips},
    "one_scale": {"use": scale_use},
    "scene_swap": {"gains": swap_gains},
    "monitor": {"delays": monitor_delays, "clusters": monitor_clusters},
    "flips-1": {"entries": benchmark_entries},
    "published_models": {"photos": published_photos, "composites": published_composites},
}
"""The tables of each page, by the name in its marker."""
