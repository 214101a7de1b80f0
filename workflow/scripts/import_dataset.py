from pathlib import Path

from piwsl.config import GivenDataset
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.data.assemble import import_given

    import_given(GivenDataset.model_validate(snakemake.params.dataset), Path(snakemake.output.dataset))
