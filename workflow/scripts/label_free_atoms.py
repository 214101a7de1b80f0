from pathlib import Path

from piwsl.config import parse_level
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.files import write_json
    from piwsl.reference.atoms import free_atoms

    params = snakemake.params
    level = parse_level(params.level, "level")
    found = free_atoms(set(params.symbols), level, Path(params.store), snakemake.resources.mem_mb)
    write_json(Path(snakemake.output.energies), found)
