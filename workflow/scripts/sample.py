from pathlib import Path

from piwsl.config import Molecule, Sampling
from piwsl.files import unchanged
from piwsl.logs import logged_to
from piwsl.workflow.contents import as_planned

with (
    logged_to(snakemake.log[0]),
    unchanged(snakemake.input),
    as_planned(snakemake.input.molecule, snakemake.params.contents),
):
    from piwsl.reference.sampling import normal_mode_frames, trajectory
    from piwsl.structures.frames import write_frames

    params, wildcards = snakemake.params, snakemake.wildcards
    make = normal_mode_frames if wildcards.kind else trajectory
    frames = make(
        Molecule.model_validate(params.molecule),
        Sampling.model_validate(params.sampling),
        temperature=float(wildcards.temperature),
        part=wildcards.part,
        frames=params.frames,
    )
    write_frames(Path(snakemake.output[0]), frames)
