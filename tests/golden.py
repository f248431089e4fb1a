"""The golden cases, and what the paper's reference implementation printed of those of the metrics."""

import json
import pathlib

import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).with_suffix("")
"""The folder of the golden cases, whose README says what they are."""
CASES = ("a", "b", "c")
"""The cases of the metrics."""
SHARES = {"fg_correct": "fg_corr", "fg_flip": "fg_flip", "fg_miss": "fg_miss", "flip_image_mean": "flip_image_mean"}


def read_case(name):
    """The logits, labels and groups of a case of the metrics."""
    with np.load(GOLDEN / f"metrics_{name}.npz") as arrays:
        case = dict(arrays)
    if "logits" in case:
        return case["logits"], case["labels"], case["groups"]
    # The metrics read no more of two foreground classes than the prediction and, where it is one of them, the log-odds.
    logits = np.zeros((*case["predictions"].shape, 3), np.float32)
    logits[..., 0] = 1
    half = case["log_odds"] / 2
    logits[case["predictions"] > 0] = np.stack([-np.abs(half) - 1, half, -half], axis=-1)
    np.testing.assert_array_equal(logits.argmax(-1), case["predictions"])
    return logits, case["labels"], case["groups"]


def check_summary(summary, name):
    """Compares a summary of a case with the reference's, as many digits as that printed."""
    expected = json.loads((GOLDEN / f"metrics_{name}.json").read_text())
    for ours, theirs in SHARES.items():
        assert summary[ours] == pytest.approx(expected[theirs], abs=5e-7), ours
    printed = {
        "class_iou": [summary[f"iou/{name}"] for name in ("background", "class1", "class2")],
        "binary_iou": summary["iou/foreground"],
        "decile_risk": summary["risk_decile"],
        "decile_mean_flip": summary["flip_by_risk_decile"],
        "top10_flip_share": summary["top_decile_flip_share"],
    }
    for key, value in printed.items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=5.001e-5, err_msg=key)
    for name, common, rare in ("class1", 0, 1), ("class2", 3, 2):
        value = [summary[f"group/{common}/iou/{name}"], summary[f"group/{rare}/iou/{name}"], summary[f"gap/{name}"]]
        np.testing.assert_allclose(value, expected["group_iou"][name], rtol=0, atol=5.001e-5)
