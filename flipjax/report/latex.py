"""A table for a paper: booktabs, escaped."""

from flipjax.report.style import visible
from flipjax.results.text import TextTable

ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
}


def to_latex(table: TextTable, *, caption: str) -> str:
    r"""Returns a table as a LaTeX `table` with the rules of the package booktabs.

    Example:
        >>> print(to_latex(TextTable(["rho", "flip"], [["0.5", "0.1 ± 0.0"]]), caption="5% of a_b"))
        \begin{table}
        \centering
        \caption{5\% of a\_b}
        \begin{tabular}{lr}
        \toprule
        rho & flip \\
        \midrule
        0.5 & 0.1 $\pm$ 0.0 \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    header, rows, _ = table
    lines = [" & ".join(map(escape, cells)) + r" \\" for cells in (header, *rows)]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    tabular = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", *body, r"\end{tabular}"]
    return "\n".join([r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}", *tabular, r"\end{table}"])


def escape(text: str) -> str:
    r"""Returns a text that LaTeX sets as it is.

    Example:
        >>> print(escape(r"a_b\c & 50% $z$ #1"))
        a\_b\textbackslash{}c \& 50\% \$z\$ \#1
    """
    return "".join(ESCAPES.get(letter, letter) for letter in visible(text))
