from pathlib import Path

from piwsl.config import Geometries
from piwsl.files import unchanged
from piwsl.logs import logged_to
from piwsl.workflow.contents import as_planned

with (
    logged_to(snakemake.log[0]),
    unchanged(snakemake.input),
    as_planned(snakemake.input.frames, snakemake.params.contents),
):
    from piwsl.reference.batches import split_geometries

    split_geometries(
        Geometries.model_validate(snakemake.params.geometries),
        part=snakemake.wildcards.part,
        candidates=Path(snakemake.output.frames),
        pool_frames=snakemake.params.pool_frames,
    )
