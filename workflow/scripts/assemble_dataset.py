from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.data.assemble import assemble
    from piwsl.data.cheap_levels import read_cheap_labels
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
        cheap=read_cheap_labels([Path(path) for path in files.cheap], [Path(path) for path in files.cheap_records]),
        max_failed=snakemake.params.max_failed,
        level=snakemake.params.level,
    )
