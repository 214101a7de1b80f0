"""The command line: the pipeline's steps without Snakemake. Thin; every command calls one function."""

from piwsl.cli import datasets, experiments, models, reference, surfaces
from piwsl.cli.application import app

# Commands are there once their modules are imported.
__all__ = ["app", "datasets", "experiments", "models", "reference", "surfaces"]
