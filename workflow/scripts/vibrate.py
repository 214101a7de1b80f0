from pathlib import Path

from piwsl.config import Run, parse_level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.surface.comparison import compare_run

    torch.set_num_threads(snakemake.threads)
    compare_run(
        Path(snakemake.input.dataset),
        run=Run.model_validate(snakemake.params.run),
        model_path=Path(snakemake.input.model),
        levels={name: parse_level(level, name) for name, level in snakemake.params.levels.items()},
        frequencies_path=Path(snakemake.output.frequencies),
    )
