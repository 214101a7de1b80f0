"""ANI-1x: ωB97X/6-31G* energies and forces of five million conformations; other levels beside, of some."""

from __future__ import annotations

from piwsl.readers import LabelNames
from piwsl.readers._ani import ANI


class ANI1x(ANI):
    """All conformations."""

    labels = LabelNames(energy_key="wb97x_dz_energy", forces_key="wb97x_dz_forces")
    needed = "wb97x_dz"
