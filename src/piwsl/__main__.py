"""`python -m piwsl` is the command line."""

from piwsl.cli import app

app()
