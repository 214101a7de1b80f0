from pathlib import Path

from piwsl.config import GivenDataset
from piwsl.files import unchanged
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]), unchanged(snakemake.input):
    from piwsl.data.assemble import cheap_levels, import_given

    params = snakemake.params
    cheap = cheap_levels(params.cheap_levels, Path(params.store), snakemake.resources.mem_mb)
    import_given(GivenDataset.model_validate(params.dataset), Path(snakemake.output.dataset), params.part, cheap)
