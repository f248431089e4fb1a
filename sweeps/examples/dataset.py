"""A finished run as an xarray data set: python sweeps/examples/dataset.py [RUN]

RUN is runs/smoke unless told otherwise: `flipjax sweep --config smoke` makes it in half a minute. Needs the extra
`xarray`: python -m pip install 'flipjax[xarray]'.
"""

import sys

import flipjax

run = flipjax.open_run(sys.argv[1] if len(sys.argv) > 1 else "runs/smoke")
data = run.dataset  # every quantity with the dimensions rule, member, part and group; rho and seed are coordinates
test = data.isel(rule=0).sel(part="test")
flip = test.fg_flip.sel(group=["common", "rare"])
print(flip.attrs["long_name"], "-", flip.attrs["description"])
print(flip.groupby("rho").mean("member").to_pandas().round(3))
if "seed" in data.coords:
    varied = [name for name in ("rho", "seed", "method") if data[name].to_series().nunique() > 1]
    grid = flip.set_index(member=varied).unstack("member") if len(varied) > 1 else flip
    print(dict(grid.sizes))
