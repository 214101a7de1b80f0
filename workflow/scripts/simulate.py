from pathlib import Path

from piwsl.config import Run, Simulation
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.simulation.dynamics import simulate

    torch.set_num_threads(snakemake.threads)
    simulate(
        Path(snakemake.input.dataset),
        run=Run.model_validate(snakemake.params.run),
        model_path=Path(snakemake.input.model),
        settings=Simulation.model_validate(snakemake.params.simulation),
        trajectory_path=Path(snakemake.output.trajectory),
        summary_path=Path(snakemake.output.summary),
    )
