from pathlib import Path

from piwsl.config import parse_level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.acquisition.rounds import Bought, Labels, complete_round
    from piwsl.config.level_checks import on_threads

    files, params, output = snakemake.input, snakemake.params, snakemake.output
    complete_round(
        Path(files.chosen),
        frames=Path(files.frames),
        labelled=[Path(path) for path in files.labelled],
        records=[Path(path) for path in files.records],
        labels=Labels(
            on_threads(parse_level(params.level, "level"), snakemake.threads),
            params.forces,
            Path(params.store),
            snakemake.resources.mem_mb,
            params.max_failed,
        ),
        bought=Bought(Path(output.frames), Path(output.records), Path(output.bought)),
    )
