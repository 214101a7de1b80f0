"""ANI-1ccx: CCSD(T)*/CBS energies of half a million conformations of ANI-1x, without forces.

The forces of ωB97X/6-31G* are those of a cheaper level.
"""

from __future__ import annotations

from piwsl.readers import LabelNames
from piwsl.readers._ani import ANI


class ANI1ccx(ANI):
    """The conformations that have a CCSD(T)*/CBS energy."""

    labels = LabelNames(
        energy_key="ccsd(t)_cbs_energy", forces_key="ccsd(t)_cbs_forces", weak_forces_key="wb97x_dz_forces"
    )
    needed = "ccsd(t)_cbs"
