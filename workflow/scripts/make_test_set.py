from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.data.test_sets import write_test_set

    params = snakemake.params
    write_test_set(
        Path(snakemake.input.labelled),
        training=Path(snakemake.input.training),
        path=Path(snakemake.output.dataset),
        along=params.along,
        units=params.units,
    )
