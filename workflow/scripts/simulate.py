from pathlib import Path

from piwsl.config import ReplicaSimulation, Run
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.simulation.replicas import SimulationOutputs, simulate

    torch.set_num_threads(snakemake.threads)
    summary = Path(snakemake.output.summary)
    simulate(
        Path(snakemake.input.dataset),
        run=Run.model_validate(snakemake.params.run),
        name=snakemake.wildcards.simulation,
        model_path=Path(snakemake.input.model),
        settings=ReplicaSimulation.model_validate(snakemake.params.simulation),
        outputs=SimulationOutputs(
            trajectory=Path(snakemake.output.trajectory),
            series=Path(snakemake.output.series),
            summary=summary,
            checkpoint=summary.with_name("checkpoint.npz"),
            earlier=Path(snakemake.params.earlier_pieces),
        ),
    )
