"""The golden cases, and what the paper's reference implementation printed of that of the metrics."""

import json
import pathlib

import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).with_suffix("")
"""The folder of the golden cases, whose README says what they are."""
CASE = GOLDEN / "metrics_c.npz"
"""The case of the metrics."""
SHARES = {"fg_correct": "fg_corr", "fg_flip": "fg_flip", "fg_miss": "fg_miss", "flip_image_mean": "flip_image_mean"}


def check_summary(summary):
    """Compares a summary of the case with the reference's, as many digits as that printed."""
    expected = json.loads(CASE.with_suffix(".json").read_text())
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
