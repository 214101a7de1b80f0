from pathlib import Path

from piwsl.config import Loss, Run, parse_model
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    import torch

    from piwsl.evaluation.evaluate import evaluate
    from piwsl.evaluation.trained_by import check_trained_by

    params = snakemake.params
    run, model_path = Run.model_validate(params.run), Path(snakemake.input.model)
    check_trained_by(model_path, run, parse_model(params.model, "params"), Loss.model_validate(params.loss))
    torch.set_num_threads(snakemake.threads)
    evaluate(
        Path(snakemake.input.dataset),
        run=run,
        model_path=model_path,
        errors_path=Path(snakemake.output.errors),
        predictions_path=Path(snakemake.output.predictions),
        worst_path=Path(snakemake.output.worst),
        test=snakemake.params.get("test"),
        like_validation=snakemake.params.get("like_validation", False),
    )
