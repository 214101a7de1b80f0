from pathlib import Path

from piwsl.logs import logged_to
from piwsl.workflow.origins import noted_origin

with logged_to(snakemake.log[0]), noted_origin(snakemake.output.frames, snakemake.params.origin):
    import torch

    from piwsl.acquisition.rounds import Wanted, choose_round

    torch.set_num_threads(snakemake.threads)
    files, output = snakemake.input, snakemake.output
    choose_round(
        Wanted(**snakemake.params.wanted),
        candidates=Path(files.candidates),
        before=[Path(path) for path in files.before],
        model=Path(files.model[0]) if files.model else None,
        frames=Path(output.frames),
        record=Path(output.chosen),
    )
