from pathlib import Path

from piwsl.config import GivenDataset
from piwsl.files import unchanged
from piwsl.logs import logged_to
from piwsl.workflow.contents import as_planned

with (
    logged_to(snakemake.log[0]),
    unchanged(snakemake.input),
    as_planned(snakemake.input.frames, snakemake.params.contents),
):
    from piwsl.data.assemble import import_given
    from piwsl.data.cheap_levels import read_cheap_labels

    params, files = snakemake.params, snakemake.input
    cheap = read_cheap_labels([Path(path) for path in files.cheap], [Path(path) for path in files.cheap_records])
    made = {name: Path(path) for name, path in snakemake.output.items()}
    dataset = GivenDataset.model_validate(params.dataset)
    import_given(dataset, made["dataset"], params.part, cheap, made.get("dropped"), made.get("split"))
