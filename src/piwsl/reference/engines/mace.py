"""Levels that a model of mace-torch gives, in its own format: published ones, and those that mace_run_train writes.

Batatia, Kovács, Simm, Ortner, Csányi, NeurIPS 2022 (arXiv 2206.07697). The format is a pickle, which runs the code that
it holds: a file is read no further than its hash, unless that is the one that the user wrote, in a config or, where a
model names the file, in the environment.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ase.data import chemical_symbols
from pydantic import Field, model_validator

from piwsl.config import Cost, SinglePoint
from piwsl.config.section import LONGEST_VALUE, nearest
from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.reference.failures import FrameFailure, JobFailure
from piwsl.reference.potentials import TRUSTED, PotentialLevel, Sha256, trusted

if TYPE_CHECKING:
    from ase import Atoms
    from torch import nn

    from piwsl.data.batch import Batch


class MACEModel(PotentialLevel):
    """A model of mace-torch's, as mace_run_train writes it; computed in double precision."""

    sha256: Sha256 = Field(description="Of the file (`sha256sum`): such a file runs code, and no other is opened.")
    head: str | None = Field(
        None, max_length=LONGEST_VALUE, description="Which of several heads; by default the only one, or `default`."
    )

    @model_validator(mode="before")
    @classmethod
    def _hash_is_said(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("sha256") is None:
            raise ValueError(
                "sha256: this key is missing; the file runs code when it is opened: if you trust where it comes from, "
                "say what sha256sum says of it"
            )
        return value

    def beside(self, folder: Path) -> Self:
        """Return the level with the file that is the one.

        Raises:
            PiwslError: the environment does not name the hash: what stands in a model is its author's word, not the
                user's, and both may be a stranger's.
        """
        if self.sha256 not in trusted():
            raise PiwslError(
                f"{self.file} runs code when it is opened, and a model asks for it: if you trust both, say "
                f"{TRUSTED}={self.sha256}"
            )
        return super().beside(folder)

    def elements(self) -> list[str]:
        """Return the chemical symbols that the model was trained on."""
        return [chemical_symbols[number] for number in _loaded(self).numbers]

    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Compute energy and forces."""
        import torch

        from piwsl.data.batch import graph
        from piwsl.structures.structure import from_atoms

        try:
            loaded = _loaded(self)
        except PiwslError as error:
            raise JobFailure(str(error)) from None
        try:
            batch = graph(from_atoms(atoms, levels=(), electrons=False), loaded.cutoff, torch.float64)
        except PiwslError as error:
            raise FrameFailure(self.engine, str(error)) from None
        found = loaded.network(loaded.inputs(batch), compute_force=forces)
        return SinglePoint(float(found["energy"].detach()), found["forces"].numpy() if forces else None)

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate a frame of a model of 128 channels."""
        return Cost(cpu_s=0.1 + 0.04 * len(atoms), memory_mb=900 + 5 * len(atoms))

    def versions(self) -> dict[str, str]:
        """Return versions of mace-torch and torch."""
        return {"mace-torch": version("mace-torch"), "torch": version("torch")}

    def __str__(self) -> str:
        """Return MACE and the file."""
        return self.words("MACE" if self.head is None else f"MACE, {self.head},")


class _Loaded(NamedTuple):
    """A model of mace-torch, ready for use."""

    network: nn.Module
    numbers: list[int]
    """Atomic numbers that it knows, in the order of its inputs."""
    cutoff: float
    """Å."""
    head: int

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """Return what the network takes, of one molecule."""
        import torch

        receiver, sender = batch.edge_index
        known = torch.tensor(self.numbers)
        return {
            "positions": batch.positions,
            "node_attrs": (batch.atomic_numbers[:, None] == known).to(batch.positions.dtype),  # (N, elements)
            "edge_index": torch.stack([sender, receiver]),
            "shifts": batch.edge_shift,
            "unit_shifts": torch.zeros_like(batch.edge_shift),
            "cell": batch.cell[0],
            "batch": batch.structure_index,
            "ptr": torch.tensor([0, len(batch.atomic_numbers)]),
            "head": torch.tensor([self.head]),
        }


@cache
def _loaded(level: MACEModel) -> _Loaded:
    """Load the model of a level once; nothing is unpickled before the hash of those bytes was compared."""
    content = level.content()
    from piwsl.architectures.mace.network import mace_torch

    network = _unpickled(content, level.file)
    modules = mace_torch().modules
    # Those derived from them ask for charges, or for fields.
    if type(network) not in (modules.MACE, modules.ScaleShiftMACE) or hasattr(network, "joint_embedding"):
        raise PiwslError(f"model: {level.file} is {type(network).__name__}, expected a MACE of energies alone")
    return _Loaded(
        network.double().eval().requires_grad_(False),
        network.atomic_numbers.tolist(),
        float(network.r_max),
        _head(level.head, getattr(network, "heads", None) or ["Default"]),
    )


def _unpickled(content: bytes, name: str) -> Any:
    import torch

    from piwsl.architectures.mace.network import mace_torch

    mace_torch()  # one that is not installed is said as such
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except ANY_ERROR as error:  # whatever a pickle does
        raise PiwslError(f"model: {name} is no model of MACE ({reason(error)})") from None


def _head(said: str | None, heads: list[str]) -> int:
    """Return the number of a head, of that which is said or, as mace-torch has it, of the default."""
    wanted = [said] if said is not None else heads if len(heads) == 1 else [h for h in heads if h.lower() == "default"]
    if wanted and wanted[0] in heads:
        return heads.index(wanted[0])
    raise PiwslError(f"head: {'not said' if said is None else f'no {said!r}'}; {nearest(said or '', heads)}")
