from pathlib import Path

from piwsl.logs import logged_to
from piwsl.workflow.origins import noted_origin

with logged_to(snakemake.log[0]), noted_origin(snakemake.output.frames, snakemake.params.origin):
    from piwsl.reference.batches import select

    select(
        [Path(path) for path in snakemake.input.candidates],
        frames=snakemake.params.frames,
        selected=Path(snakemake.output.frames),
        candidates_each=snakemake.params.candidates_each,
    )
