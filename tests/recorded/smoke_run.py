"""The run that tables and pages are tested on: two methods, two levels of rho, two seeds, two selection rules.

Recorded in less than a minute on 2 cores, in this folder, by

    rm -r run; python -m flipjax.sweep --config smoke_run.py --workdir run
    rm -r run/{report,images.parquet,cells/000/weights}

One machine gives the same bytes every time. After a change of how a step rounds, or on another processor, AUROCs of a
dozen images may differ by 0.3: record it anew then.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.update(size=24, objects=72, scenes=48)
    config.split.update(n_train=96, n_val=24, n_test=48)
    config.train.update(epochs=3, selection=("val_loss", "val_flip"))
    config.axes.update(rho=(0.5, 0.95), seed=(0, 1), method=("ce", "bg_swap"))
    return config
