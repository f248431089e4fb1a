"""The extras of flipjax, and what to install where a package is missing."""

EXTRAS = {
    "arrow": ("pyarrow",),
    "coco": ("ijson", "pycocotools"),
    "export": ("mlflow", "trackio", "wandb"),
    "nifti": ("nibabel",),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "xarray": ("xarray",),
}
"""The packages that each extra brings, by the names under which Python imports them."""

NAMES_FOR_PIP = {
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
}
"""Required packages whose names for pip are other than their import names."""


def to_install(package: str) -> str:
    """Returns what pip installs for a missing package, named as Python imports it.

    Example:
        >>> to_install("PIL"), to_install("nibabel"), to_install("ml_collections")
        ('pillow', "'flipjax[nifti]'", 'ml-collections')
    """
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f"'flipjax[{extra}]'"
    return NAMES_FOR_PIP.get(package, package.replace("_", "-"))
