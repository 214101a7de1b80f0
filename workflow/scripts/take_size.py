from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.acquisition.rounds import take_bought

    take_bought(
        Path(snakemake.input.training),
        [Path(path) for path in snakemake.input.rounds],
        Path(snakemake.output.dataset),
    )
