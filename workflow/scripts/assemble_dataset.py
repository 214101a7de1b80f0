from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.data.assemble import assemble, cheap_levels
    from piwsl.reference.batches import check_failures

    files = snakemake.input
    check_failures([Path(path) for path in files.records], max_failed=snakemake.params.max_failed)
    assemble(
        training=[Path(path) for path in files.training],
        test=[Path(path) for path in files.test],
        atoms=[Path(path) for path in files.atoms],
        dataset_path=Path(snakemake.output.dataset),
        weak_forces=snakemake.params.weak_forces is not None,
        pool=[Path(path) for path in files.pool],
        cheap=cheap_levels(
            snakemake.params.cheap_levels,
            Path(snakemake.params.store),
            snakemake.resources.mem_mb,
            snakemake.params.max_failed,
        ),
    )
