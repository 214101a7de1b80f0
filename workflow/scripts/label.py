from pathlib import Path

from piwsl.config import parse_level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.config.level_checks import on_threads
    from piwsl.reference.batches import label_batch

    params, output = snakemake.params, snakemake.output
    label_batch(
        Path(snakemake.input.frames),
        level=on_threads(parse_level(params.level, "level"), snakemake.threads),
        positions=slice(params.start, params.stop),
        forces=params.forces,
        store=Path(params.store),
        memory_mb=snakemake.resources.mem_mb,
        labelled=Path(output.labelled),
        records=Path(output.records),
    )
