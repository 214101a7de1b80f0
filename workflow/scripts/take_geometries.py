from pathlib import Path

from piwsl.config import GivenDataset
from piwsl.files import unchanged
from piwsl.logs import logged_to
from piwsl.workflow.contents import as_planned
from piwsl.workflow.origins import noted_origin

with (
    logged_to(snakemake.log[0]),
    unchanged(snakemake.input),
    as_planned(snakemake.input.frames, snakemake.params.contents),
    noted_origin(snakemake.output.frames, snakemake.params.origin),
):
    from piwsl.data.assemble import write_geometries

    params = snakemake.params
    write_geometries(
        GivenDataset.model_validate(params.dataset), snakemake.wildcards.part, Path(snakemake.output.frames)
    )
