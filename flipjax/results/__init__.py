"""Tables from stored decompositions: rows per member and group, means over seeds, trends in the correlation level.

A row is a dict whose values are cells: int, finite float or str; a number that does not exist is the empty string.
Files hold the same cells, so that reading a table and writing it again gives the same bytes. Imports no matplotlib.
"""

from flipjax.results.choices import method_regret, regret
from flipjax.results.data import RunData, columns_of, load, units, write_images
from flipjax.results.files import (
    PARTS,
    Part,
    Row,
    StoredCell,
    load_cell,
    read_csv,
    replacing,
    save_cell,
    write_csv,
    write_results,
)
from flipjax.results.images import flip_rows, image_columns
from flipjax.results.pairs import McNemar, counterfactual_flip, label_changes, mcnemar, pair_tests, region_class
from flipjax.results.quantities import QUANTITIES, quantity_of, title_of
from flipjax.results.quantity import Quantity
from flipjax.results.regions import region_quantities
from flipjax.results.repair_sign import agreement, repair_signs
from flipjax.results.resampling import Resamples
from flipjax.results.rows import GROUPS, axes_of, member_quantities, member_rows, number
from flipjax.results.scene_swap import SceneSwap, scene_quantities, scene_swap
from flipjax.results.scores import SCORE_COLUMNS, SCORES, WANTED_RISK, image_scores, score_rows, score_summary
from flipjax.results.seeds import INTERVALS, LEFT_OUT, Estimate, aggregate, compare, estimate, trend
from flipjax.results.text import (
    Table,
    comparison_table,
    headline,
    pair_table,
    regret_table,
    repair_warning,
    score_table,
    setting_label,
    sign_table,
    summary_table,
    to_markdown,
    to_text,
    trend_table,
    varying_axes,
)

__all__ = [
    "GROUPS",
    "INTERVALS",
    "LEFT_OUT",
    "PARTS",
    "QUANTITIES",
    "SCORES",
    "SCORE_COLUMNS",
    "WANTED_RISK",
    "Estimate",
    "McNemar",
    "Part",
    "Quantity",
    "Resamples",
    "Row",
    "RunData",
    "SceneSwap",
    "StoredCell",
    "Table",
    "aggregate",
    "agreement",
    "axes_of",
    "columns_of",
    "compare",
    "comparison_table",
    "counterfactual_flip",
    "estimate",
    "flip_rows",
    "headline",
    "image_columns",
    "image_scores",
    "label_changes",
    "load",
    "load_cell",
    "mcnemar",
    "member_quantities",
    "member_rows",
    "method_regret",
    "number",
    "pair_table",
    "pair_tests",
    "quantity_of",
    "read_csv",
    "region_class",
    "region_quantities",
    "regret",
    "regret_table",
    "repair_signs",
    "repair_warning",
    "replacing",
    "save_cell",
    "scene_quantities",
    "scene_swap",
    "score_rows",
    "score_summary",
    "score_table",
    "setting_label",
    "sign_table",
    "summary_table",
    "title_of",
    "to_markdown",
    "to_text",
    "trend",
    "trend_table",
    "units",
    "varying_axes",
    "write_csv",
    "write_images",
    "write_results",
]
