"""The figure of the study: a flip, its context, what training labels say of that context, and beta of all models."""

import context
import matplotlib
import numpy as np
import published
from ask import OPTIONS
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from flipjax import metrics

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
MODEL = "ESPNetv2 2.0"


def read_mask(path):
    """Returns the class indices (H, W) of a PNG."""
    with Image.open(path) as image:
        return np.asarray(image)


def choose_flip(true, evidence):
    """Returns the row of a confusion with one class around it that speaks for the wrong class most strongly."""
    wrong = true["predicted"].to_numpy(int)
    told = evidence[np.arange(len(true)), wrong]
    around = context.context_classes(true)[:, 1:].sum(1)
    fit = (true["outcome"] == "flip").to_numpy() & ~true["bleeding"].fillna(True).to_numpy(bool) & (around >= 1)
    fit &= (true["stratum"] >= 2).to_numpy()
    return int(np.where(fit, told, -np.inf).argmax())


def draw(table, answers, images, labels, shares, places, folder):
    """Writes context.png into `folder`, and flip.png, the same with its photo, into `answers`."""
    with np.load(answers / f"{MODEL.replace(' ', '_')}.npz") as stored:
        masks = stored["masks"][np.argsort(stored["order"])]
    true = metrics.segments(masks, labels, **OPTIONS)
    true = true[true["image"] < (places < 0).sum()].reset_index(drop=True)
    evidence = context.context_evidence(true, shares, own=places)
    row = choose_flip(true, evidence)
    for path, photo in ((folder / "context.png", None), (answers / "flip.png", images[true["image"][row]])):
        grid, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
        _draw_objects(axes[0], true, row, photo)
        _draw_context(axes[1], true, row, evidence, shares)
        _draw_betas(axes[2], table)
        grid.savefig(path, dpi=120)
        plt.close(grid)


def _draw_objects(axis, true, row, photo):
    """Draws the photo, or its frame, with a box for each true object."""
    side = published.SIDE
    if photo is not None:
        axis.imshow(photo)
    flip = true.loc[row]
    for _, each in true[true["image"] == flip["image"]].iterrows():
        mine = each.name == row
        box = (each["left"], each["top"]), each["right"] - each["left"], each["bottom"] - each["top"]
        axis.add_patch(plt.Rectangle(*box, fill=False, linewidth=2, color=ORANGE if mine else BLUE))
        name = published.CLASSES[each["class"]]
        name += f", taken for {published.CLASSES[int(each['predicted'])]}" if mine else ""
        axis.text(each["left"] + 4, each["top"] + 16, name, color=ORANGE if mine else BLUE, fontsize="small")
    axis.set(xlim=(0, side), ylim=(side, 0), xticks=[], yticks=[], aspect="equal", title="a flip and its context")


def _draw_context(axis, true, row, evidence, shares):
    """Draws how often training photos of the true and of the wrong class show each class of the context."""
    c, d = int(true["class"][row]), int(true["predicted"][row])
    around = [e for e in np.flatnonzero(context.context_classes(true)[row]) if e not in (0, c, d)]
    shown = [(shares[shares[:, k] >= 0.001][:, around] >= 0.01).mean(0) for k in (c, d)]
    places = np.arange(len(around))
    for offset, share, k, colour in ((-0.2, shown[0], c, GREY), (0.2, shown[1], d, ORANGE)):
        bars = axis.bar(places + offset, share, 0.38, color=colour, label=f"training photos of {published.CLASSES[k]}")
        axis.bar_label(bars, fmt="{:.0%}", fontsize="small")
    axis.set_xticks(places, [f"with {published.CLASSES[e]}" for e in around])
    axis.set(title=f"the labels speak for {published.CLASSES[d]}: {evidence[row, d]:+.1f} nat", yticks=[])
    axis.legend(frameon=False, fontsize="small", loc="upper right")
    axis.margins(y=0.35)


def _draw_betas(axis, table):
    """Draws beta on VOC-val: its interval, and its value with shuffled contexts."""
    rows = table[table["split"] == "val"].set_index(["model", "quantity"])
    for place, model in enumerate(published.MODELS):
        beta = rows.loc[model, "beta"]
        axis.plot([beta["low"], beta["high"]], [place, place], color=ORANGE)
        axis.plot(beta["value"], place, "o", color=ORANGE, label="as they are" if place == 0 else None)
        shuffled = rows.loc[(model, "beta, shuffled"), "value"]
        axis.plot(shuffled, place, "o", mfc="none", color=GREY, label="contexts shuffled" if place == 0 else None)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(published.MODELS)), published.MODELS)
    axis.set(title="how far flips follow such evidence", xlabel="beta (1: all of it)")
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize="small")
