"""Flip in the rare groups, gaps and flip-risk at six levels of rho, on the drawn pool.

Command: flipjax sweep --config correlation_grid
Cost: 24 members, 2.5 to 5 minutes on 2 cores.
Expected: Flip in the rare groups rises from 0.07 at rho 0.5 to 0.87 at rho 0.99, and foreground IoU stays at 0.85 or
more (sweeps/studies/correlation_grid).
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2, 3)
    return config
