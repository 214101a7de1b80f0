from pathlib import Path

from piwsl.config import Loss, Run, parse_level, parse_model
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.models import Baseline
    from piwsl.training.run import CPU, Devices, train_run

    params = snakemake.params
    gpus = snakemake.resources.gpu
    train_run(
        Path(snakemake.input.dataset),
        run=Run.model_validate(params.run),
        model=parse_model(params.model, "params"),
        loss=Loss.model_validate(params.loss),
        model_path=Path(snakemake.output.model),
        history_path=Path(snakemake.output.history),
        threads=snakemake.threads,
        devices=Devices("gpu", gpus) if gpus else CPU,
        baseline=next((Baseline(name, parse_level(level, name)) for name, level in params.baseline.items()), None),
        pool_path=Path(snakemake.input.pool[0]) if snakemake.input.pool else None,
        distributions=params.distributions,
        level=params.level,
        to_local_disk=bool(snakemake.resources.to_local_disk),
        mem_mb=snakemake.resources.mem_mb,
        earlier_path=Path(params.earlier_pieces),
    )
