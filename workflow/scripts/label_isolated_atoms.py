from pathlib import Path

from piwsl.config import Level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.reference.batches import label_isolated_atoms

    label_isolated_atoms(
        [Path(path) for path in snakemake.input.frames],
        level=Level.model_validate(snakemake.params.level),
        store=Path(snakemake.params.store),
        memory_mb=snakemake.resources.mem_mb,
        energies=Path(snakemake.output.energies),
    )
