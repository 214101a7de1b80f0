from pathlib import Path

from piwsl.config import parse_level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.surface.comparison import vibrate_levels

    vibrate_levels(
        Path(snakemake.input.dataset),
        dataset=snakemake.wildcards.dataset,
        levels={name: parse_level(level, name) for name, level in snakemake.params.levels.items()},
        frequencies_path=Path(snakemake.output.frequencies),
    )
