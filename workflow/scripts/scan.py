from pathlib import Path

from piwsl.config import Molecule, Scan
from piwsl.files import unchanged
from piwsl.logs import logged_to
from piwsl.workflow.contents import as_planned

with (
    logged_to(snakemake.log[0]),
    unchanged(snakemake.input),
    as_planned(snakemake.input.molecule, snakemake.params.contents),
):
    from piwsl.reference.geometries import load_molecule
    from piwsl.reference.tight_binding import gfn2
    from piwsl.surface.scan_frames import write_scan

    params = snakemake.params
    molecule = Molecule.model_validate(params.molecule)
    atoms = load_molecule(molecule)
    atoms.calc = gfn2(molecule.charge, molecule.multiplicity)
    write_scan(atoms, Scan.model_validate(params.scan), params.name, Path(snakemake.output.frames))
