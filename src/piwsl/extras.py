"""Packages that a plain install leaves out, and the line that says which extra of piwsl brings a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from piwsl.errors import PiwslError

# What is imported, to what it is for and the extra of pyproject.toml that brings it.
PACKAGES = {
    "aiohttp": ("downloads need aiohttp", "workflow"),
    "basis_set_exchange": ("bases that PySCF lacks need basis-set-exchange", "reference"),
    "e3nn": ("MACE needs mace-torch", "mace"),
    "fsspec": ("downloads need fsspec", "workflow"),
    "jinja2": ("the report needs Jinja", "workflow"),
    "lightning": ("training needs Lightning", "training"),
    "mace": ("MACE needs mace-torch", "mace"),
    "matplotlib": ("figures of the report need Matplotlib", "workflow"),
    "pandas": ("tables of results need pandas", "workflow"),
    "plotly": ("the report needs Plotly", "workflow"),
    "psutil": ("training and simulations of an experiment need psutil", "training"),
    "pyarrow": ("predictions as Parquet need PyArrow", "workflow"),
    "pyscf": ("reference energies need PySCF", "reference"),
    "rdkit": ("molecules of SMILES need RDKit", "reference"),
    "snakemake": ("the workflow needs Snakemake", "workflow"),
    "tblite": ("GFN2-xTB needs tblite", "xtb"),
    "tensorboardX": ("training needs tensorboardX", "training"),
    "torch_sim": ("a model of torch-sim needs torch-sim", "simulation"),
}


@contextmanager
def naming_extras() -> Iterator[None]:
    """Say by which extra a package comes that is not installed.

    Raises:
        PiwslError: an import within failed because of it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        use, extra = PACKAGES.get((error.name or "").split(".")[0], (None, None))
        if use is None:
            raise
        raise PiwslError(f"{use}; pip install 'piwsl[{extra}]'") from error
