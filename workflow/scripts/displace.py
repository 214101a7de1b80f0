from pathlib import Path

from piwsl.config import parse_level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.config.level_checks import on_threads
    from piwsl.reference.batches import label_displaced

    params = snakemake.params
    number, shares = params.share
    label_displaced(
        Path(snakemake.input.frames),
        level=on_threads(parse_level(params.level, "level"), snakemake.threads),
        position=params.position,
        forces=params.forces,
        share=slice(number, None, shares),
        store=Path(params.store),
        memory_mb=snakemake.resources.mem_mb,
        records=Path(snakemake.output.records),
    )
