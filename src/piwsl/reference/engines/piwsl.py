"""Levels that a model file of this project gives: of any architecture, a committee, with or without a baseline."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator

from piwsl.config import Cost, SinglePoint
from piwsl.errors import PiwslError
from piwsl.files import file_hash
from piwsl.reference.failures import FrameFailure, JobFailure
from piwsl.reference.potentials import PotentialLevel, Sha256

if TYPE_CHECKING:
    from ase import Atoms

    from piwsl.models import Predictor


class PiwslModel(PotentialLevel):
    """A model file of piwsl's own, which a model may correct in turn; computed in double precision."""

    sha256: Sha256 | None = Field(
        None, validate_default=True, description="Of the file; by default what it has when the config is read."
    )

    @field_validator("sha256")
    @classmethod
    def _content_is_known(cls, said: str | None, keys: ValidationInfo) -> str | None:
        """Take the hash from the file, so that whatever is made with the level depends on its content.

        Of a file that is not there, or cannot be read, there is none, and `problem` says so.
        """
        path = keys.data.get("model")
        if said is None and path is not None and path.is_file():
            with suppress(OSError):
                return file_hash(path)
        return said

    def elements(self) -> list[str]:
        """Return the chemical symbols that the model was trained on."""
        return _loaded(self).elements()

    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Compute energy and forces of the network and of the baseline that it corrects."""
        from piwsl.data.batch import graph
        from piwsl.models import BaselineFailure
        from piwsl.structures.structure import from_atoms

        atoms.info |= {"charge": charge, "multiplicity": multiplicity}
        structure = from_atoms(atoms, levels=())
        try:
            model = _loaded(self)
        except PiwslError as error:
            raise JobFailure(str(error)) from None
        try:
            found = model.predict(graph(structure, model.cutoff, model.dtype), ("energy", "forces"))
        except PiwslError as error:
            raise FrameFailure(self.engine, str(error)) from None
        assert found.forces is not None
        energy, gradient = float(found.energy.detach()), found.forces.double().numpy()
        if model.baseline is None:
            return SinglePoint(energy, gradient)
        try:
            own = model.baseline.part(structure)
        except BaselineFailure as failure:
            raise FrameFailure(self.engine, str(failure)) from None
        except PiwslError as error:
            raise JobFailure(str(error)) from None
        assert own.energy is not None
        assert own.forces is not None
        return SinglePoint(energy + own.energy, gradient + own.forces)

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate a frame: of each member, between what a PaiNN takes and a MACE, and of the baseline."""
        model = _loaded(self)
        own = Cost(cpu_s=(0.03 + 0.002 * len(atoms)) * model.config.members, memory_mb=600)
        if model.baseline is None:
            return own
        beneath = model.baseline.level.cost(atoms, charge, multiplicity, forces)
        return Cost(own.cpu_s + beneath.cpu_s, own.memory_mb + beneath.memory_mb, beneath.scratch_mb)

    def versions(self) -> dict[str, str]:
        """Return torch's version, and those of the baseline."""
        import torch

        baseline = _loaded(self).baseline
        return {"torch": torch.__version__, **({} if baseline is None else baseline.level.versions())}

    def __str__(self) -> str:
        """Return the architecture and the file."""
        kind = "potential"
        with suppress(PiwslError):
            kind = type(_loaded(self).config).__name__
        return self.words(kind)


@cache
def _loaded(level: PiwslModel) -> Predictor:
    """Load the model of a level once, in double precision: labels are differences of large numbers."""
    import torch

    from piwsl.models import load_model

    level.content()
    try:
        return load_model(level.model).in_dtype(torch.float64)
    except PiwslError as error:
        raise PiwslError(f"model: {error}") from None
