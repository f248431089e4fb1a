"""The findings of an assay in sentences, each a row of a table of its page."""

import math

import numpy as np

from flipjax.assays.options import FROZEN, MOST_SEEDS, SMALL
from flipjax.assays.remedy import FEWEST_LEVELS, LARGEST_FACTOR, CounterExamples, Level
from flipjax.assays.results import Assay
from flipjax.assays.statistics.association import usual_mask
from flipjax.assays.statistics.verdict import Step
from flipjax.results.statistics.verdicts import FEWEST_SEEDS
from flipjax.support.terminal import listed

TELLING_AUROC = 0.6
"""AUROC that a cue's interval must exceed for a sentence that the cue tells the attribute."""


def duration(seconds: float) -> str:
    """Returns a duration as `--budget` takes it, in whole minutes above two, rounded up.

    Example:
        >>> duration(90), duration(120.5)
        ('90s', '3m')
    """
    if seconds <= 120:
        return f"{math.ceil(seconds)}s"
    return f"{math.ceil(seconds / 60)}m"


def findings(assay: Assay) -> list[str]:
    """Returns the verdict, the contrast, what ends the shortcut, and how strongly the attribute goes with the class."""
    lines = [f"{assay.attribute}: {assay.verdict.word}. {assay.verdict.reason}"]
    if assay.verdict.help:
        lines.append(assay.verdict.help)
    lines += _flips(assay)
    lines += _remedies(assay)
    lines.append(association_sentence(assay))
    cue = cue_sentence(assay)
    if cue:
        lines.append(cue)
    lines += assay.notes
    return lines


def association_sentence(assay: Assay) -> str:
    """Returns how strongly attribute and class go together."""
    association = assay.association
    parts = []
    usual = usual_mask(association.usual, len(assay.value_names))
    for y, name in enumerate(assay.class_names):
        shown = [value for value, is_usual in zip(assay.value_names, usual[y], strict=True) if is_usual]
        parts.append(f"{association.rho[y]:.0%} of {name} have {' or '.join(shown)}")
    strength = f"Cramer's V {association.cramers_v:.2f}, where 0 is no association and 1 a complete one"
    return (
        f"Class and {assay.attribute}: {', '.join(parts)} ({strength}; p {association.p:.2g} over permuted "
        f"{association.unit})."
    )


def cue_sentence(assay: Assay) -> str:
    """Returns the cue that tells the attribute best, or ''."""
    if not assay.cues:
        return ""
    cue = assay.cues[0]
    auroc = f"AUROC {cue.of_value.text('.2f')}"
    if cue.of_value.low <= TELLING_AUROC:
        return f"No measured cue tells {assay.attribute} well; the best is {cue.name} ({auroc})."
    of_class = f"{cue.of_class.value:.2f}"
    return f"The cue that tells {assay.attribute} best is {cue.name} ({auroc}); it tells the class with {of_class}."


def advise(assay: Assay, next_step: Step, *, seeds: int, allowed: int, budget: float) -> str:
    """Returns a sentence on what would make the verdict clear: options as they are typed, or more images.

    Args:
        assay: whose contrast cannot be told.
        next_step: after its last batch of seeds.
        seeds: the number that would tell, in all.
        allowed: the most seeds of this call.
        budget: the seconds that these seeds need.
    """
    training = assay.training
    outlook = assay.outlook
    assert training is not None
    if next_step == Step.NOT_LEARNT:
        return _advise_learning(training.network)
    typed = f"--budget {duration(budget)}"
    if seeds > allowed:
        typed = f"--seeds {seeds} {typed}"
    goes_on = f"{typed} goes on in this folder, to {seeds} seeds"
    if training.tested < assay.images:
        return f"So far {training.tested} of {assay.images} images were tested: {goes_on}."
    if outlook is None or math.isnan(outlook.image_share) or training.seeds < FEWEST_SEEDS:
        return f"{goes_on}."
    if next_step == Step.MORE_IMAGES:
        share = f"{outlook.image_share:.0%} of its variance is over {assay.unit}, not seeds"
        return f"{share}: {_advise_images(assay, outlook.collect)}"
    share = f"{1 - outlook.image_share:.0%} of its variance is over seeds"
    if seeds > MOST_SEEDS:
        return (
            f"{share}: about {seeds} would be needed, and --seeds takes {MOST_SEEDS} at most. More images may tell, "
            "or, into a new --out, larger ones (--size) or more epochs (--epochs), by which networks differ less."
        )
    return f"{share}: {goes_on}."


def _advise_learning(network: str) -> str:
    """Returns what may learn the classes where a network does not."""
    if network == SMALL:
        return (
            "--network frozen may learn them, or, into a new --out, larger images (--size) or more epochs (--epochs)."
        )
    if network == FROZEN:
        return "More images may help, or, into a new --out, larger ones (--size) or more epochs (--epochs)."
    return "More images may help, or, into a new --out, more epochs (--epochs)."


def _advise_images(assay: Assay, collect: np.ndarray) -> str:
    """Returns how many images, or clusters, of which groups would tell."""
    if not collect.sum():
        return "the contrast lies so near the margin that no number of images that flipjax would advise can tell."
    noun = "images"
    if assay.clustered:
        noun = assay.cluster_name
    return f"about {collect.sum()} more {noun} would tell, {_listed_groups(assay, collect)}."


def _listed_groups(assay: Assay, counts: np.ndarray) -> str:
    """Returns the groups with a count, int (F, V), above 0, such as `8 of benign with B`."""
    texts = []
    for (y, value), count in np.ndenumerate(counts):
        if count:
            texts.append(f"{count} of {assay.class_names[y]} with {assay.value_names[value]}")
    return listed(texts)


def _flips(assay: Assay) -> list[str]:
    """Returns Flip of the population, and what the budget left out where the attribute is used."""
    if not assay.levels:
        return []
    training = assay.training
    assert training is not None
    whole = assay.levels[-1]
    lines = [
        f"Flip of {training.words} is {whole.flip_rare.text} in the rare groups and {whole.flip_common.text} in the "
        "common ones (means over groups, each of all its object pixels)."
    ]
    if assay.used and training.left_out:
        left_out = listed(list(training.left_out))
        budget = duration(training.budget_for_all)
        lines.append(f"The budget had no room for {left_out}; --budget {budget} goes on in this folder.")
    return lines


def _flip_of_rare(level: Level) -> float:
    return level.flip_rare.value


def _remedies(assay: Assay) -> list[str]:
    """Returns how many counter-examples end the use of the attribute, and which methods do."""
    if assay.counter_examples is None:
        return []
    sentences = [_sentence_on_counter_examples(assay, assay.counter_examples)]
    target = assay.counter_examples.target
    reached = [level for level in assay.methods if level.flip_rare.value <= target]
    if reached:
        named = [
            f"{level.name} ({level.flip_rare.text}, foreground IoU {level.foreground_iou:.2f})" for level in reached
        ]
        sentences.append(f"Without new data, {listed(named)} bring it below {target:g}.")
    elif assay.methods:
        best = min(assay.methods, key=_flip_of_rare)
        sentences.append(
            f"No method tried brings it below {target:g} without new data; the best is {best.name}, "
            f"{best.flip_rare.text}."
        )
    return sentences


def _sentence_on_counter_examples(assay: Assay, needed: CounterExamples) -> str:
    """Returns how many counter-examples bring Flip in the rare groups to the target."""
    if needed.kind == "enough":
        return (
            f"{needed.sufficient:.0%} of the counter-examples suffice for Flip of {needed.target:g} in the rare groups."
        )
    if needed.kind == "extrapolated":
        return (
            f"For Flip of {needed.target:g} in the rare groups collect {_listed_groups(assay, needed.to_collect)}: "
            f"{needed.factor:.1f} times the counter-examples of the data, an extrapolation along the log-odds of rho."
        )
    question = f"How many counter-examples bring Flip in the rare groups to {needed.target:g}"
    if sum(level.kept > 0 for level in assay.levels) < FEWEST_LEVELS:
        return f"{question} needs networks of {FEWEST_LEVELS} numbers of counter-examples, which the budget left out."
    return (
        f"{question} cannot be told from these data: over {LARGEST_FACTOR:g} times as many, or more than a "
        "class has common images."
    )
