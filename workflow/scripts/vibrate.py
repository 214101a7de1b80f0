from pathlib import Path

from piwsl.config import Run
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.surface.comparison import vibrate_run

    torch.set_num_threads(snakemake.threads)
    vibrate_run(
        Path(snakemake.input.dataset),
        run=Run.model_validate(snakemake.params.run),
        model_path=Path(snakemake.input.model),
        frequencies_path=Path(snakemake.output.frequencies),
    )
