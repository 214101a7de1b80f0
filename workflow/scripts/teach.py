from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.evaluation.teaching import teach

    torch.set_num_threads(snakemake.threads)
    teach(Path(snakemake.input.model), Path(snakemake.input.pool), Path(snakemake.output.taught))
