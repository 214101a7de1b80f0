from pathlib import Path

from piwsl.config import Run
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.evaluation.evaluate import evaluate

    torch.set_num_threads(snakemake.threads)
    evaluate(
        Path(snakemake.input.dataset),
        run=Run.model_validate(snakemake.params.run),
        model_path=Path(snakemake.input.model),
        errors_path=Path(snakemake.output.errors),
        predictions_path=Path(snakemake.output.predictions),
        worst_path=Path(snakemake.output.worst),
        test=snakemake.params.get("test"),
    )
