"""Plots Flip over rho from a finished run: python sweeps/examples/pandas_plot.py [RUN] [OUT.png]

RUN is runs/smoke unless told otherwise: `flipjax sweep --config smoke` makes it in half a minute.
"""

import sys

import matplotlib.pyplot as plt

from flipjax import results

run, out = [*sys.argv[1:], *("runs/smoke", "flip.png")[len(sys.argv) - 1 :]]
members = results.load(run).results  # a row for each member, rule, split and group
test = members[(members.split == "test") & members.group.isin(["common", "rare"])]
columns = [name for name in ("method", "group") if name in test]
flip = test.pivot_table(index="rho", columns=columns, values="fg_flip")  # mean over seeds, a line a method and group
print(flip.round(3))
axes = flip.plot(marker="o", ylabel="Flip: share of the true foreground", ylim=(0, 1))
axes.figure.savefig(out)
plt.close(axes.figure)
