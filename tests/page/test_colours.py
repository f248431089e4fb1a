"""The colours of outcomes, classes and levels: told apart by colour-blind eyes, seen in both modes."""

import itertools
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from flipjax.page import style

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(1)


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colour, eyes):
    xyz = TO_XYZ @ np.clip(np.array(eyes) @ linear(colour), 0, 1) / WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(colours, eyes):
    return min(np.linalg.norm(lab(a, eyes) - lab(b, eyes)) for a, b in itertools.combinations(colours, 2))


def contrast(one, other):
    bright, dark = sorted((TO_XYZ[1] @ linear(colour) for colour in (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eyes", EYES)
def test_outcomes_and_the_first_classes_are_told_apart(eyes):
    outcomes = [style.CORRECT, style.FLIP, style.MISS, style.SPILL]
    assert least_distance(outcomes, EYES[eyes]) >= 30
    assert least_distance(style.CLASSES[:3], EYES[eyes]) >= 30
    # They stand in one legend.
    least = min(least_distance(pair, EYES[eyes]) for pair in itertools.product(outcomes, style.CLASSES[1:3]))
    assert least >= (45 if eyes == "normal" else 15)
    assert least_distance([style.COMMON, style.RARE], EYES[eyes]) >= 20


@pytest.mark.parametrize("classes", [3, 12])
def test_a_page_can_show_the_colour_of_each_class(classes):
    colours = style.class_colours(classes)
    assert len(set(colours)) == classes
    assert all(re.fullmatch("#[0-9A-Fa-f]{6}", colour) for colour in colours)


def test_lines_are_seen_in_both_modes_and_texts_on_colours_can_be_read():
    lines = [style.RARE, style.REPAIRED, style.COMMON, *style.shades(6)]
    assert min(contrast(line, paper) for line in lines for paper in ("#ffffff", "#161616")) >= 3
    texts = {style.CORRECT: style.DARK, style.FLIP: style.LIGHT, style.MISS: style.LIGHT}
    assert min(contrast(text, colour) for colour, text in texts.items()) >= 4.5
