from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.reference.batches import select

    select(
        [Path(path) for path in snakemake.input.candidates],
        frames=snakemake.params.frames,
        selected=Path(snakemake.output.frames),
        candidates_each=snakemake.params.candidates_each,
    )
