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
    from piwsl.data.test_sets import take_whole_file

    take_whole_file(Geometries.model_validate(snakemake.params.geometries), Path(snakemake.output.frames))
