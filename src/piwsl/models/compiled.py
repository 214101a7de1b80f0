"""Energies and forces of a potential as native code, without Python and without autograd.

`make_fx` traces energies and forces together, so that no derivative is left to take, and torch's ahead-of-time compiler
makes a library of it. Numbers of atoms and edges are symbols, and weights are arguments: one library serves structures
and batches of any size, all members of a committee, and all models of the same architecture and elements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.fx import GraphModule

from piwsl.data.batch import Batch, sum_per_structure
from piwsl.models.committee import Committee, combined
from piwsl.models.native import Deviation, Library, library, one_line, stored, weights
from piwsl.models.potential import Potential
from piwsl.models.predictor import Predictor
from piwsl.models.terms import Prediction, Property

# Largest difference from eager: of energies of atoms, eV, and of forces, eV/Å, or relative where those exceed 1.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
# s, of one core: to trace a potential, which is wasted where no code of it is stored; and to compile it.
TRACING_SECONDS, COMPILING_SECONDS = 10.0, 40.0
# Of the time of eager evaluation, what compiled code saves at least; it has been 0.65 to 0.85.
SAVED = 0.6


class CompiledPredictor(Predictor):
    """A potential or committee whose energies and forces are evaluated by native code.

    Stress, energies without forces, derivatives of forces, and structures without neighbours are evaluated as they
    stand. So is everything where the code differs from the potential at the first batch.
    """

    def __init__(self, predictor: Predictor, code: Library) -> None:
        """Keep what predicts and its code.

        Args:
            predictor: a potential, or a committee.
            code: of its energies of atoms and forces, a function of a batch's tensors and of weights.
        """
        super().__init__()
        self.predictor = predictor
        self.config, self.dtype = predictor.config, predictor.dtype
        self.neighbours, self.conservative = predictor.neighbours, predictor.conservative
        self.baseline = predictor.baseline
        self._states = [weights(member) for member in _members(predictor)]
        self._code: Library | None = code
        self._checked = False

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.predictor.device

    @property
    def has_pair_potential(self) -> bool:
        """Whether a pair potential is part of it."""
        return self.predictor.has_pair_potential

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the networks to another precision, in place; from then on they are evaluated as they stand."""
        self.predictor.in_dtype(dtype)
        self.dtype, self._code = dtype, None
        return self

    def elements(self) -> list[str]:
        """Return the chemical symbols that it knows, by atomic number."""
        return self.predictor.elements()

    def predict(
        self, batch: Batch, properties: Collection[Property] = ("energy", "forces"), create_graph: bool = False
    ) -> Prediction:
        """Predict what is asked for; arguments as of `Predictor`."""
        if self._code is None or create_graph or not self._serves(batch, properties):
            return self.predictor.predict(batch, properties, create_graph)
        if not self._checked:
            self._check(self._code, batch)
        return self.predictor.predict(batch, properties) if self._code is None else self._evaluated(self._code, batch)

    def _serves(self, batch: Batch, properties: Collection[Property]) -> bool:
        spread = {"spread"} if isinstance(self.predictor, Committee) else set()
        large = batch.positions.shape[0] > 1 and batch.edge_shift.shape[0] > 1
        return (
            large
            and batch.positions.dtype == self.dtype
            and "forces" in properties
            and {"energy", "forces"} | spread >= set(properties)
        )

    def _evaluated(self, code: Library, batch: Batch) -> Prediction:
        own = (batch.positions, batch.atomic_numbers, batch.edge_index, batch.edge_shift)
        tensors = [each.contiguous() for each in own]  # code does not look at strides
        found = []
        with torch.no_grad():
            for state in self._states:
                energies, forces = code(*tensors, *state)
                found.append(Prediction(sum_per_structure(energies, batch), energies, forces, None))
        return combined(found) if isinstance(self.predictor, Committee) else found[0]

    def _check(self, code: Library, batch: Batch) -> None:
        """Compare with the potential itself; where the code differs or fails, it is not used again."""
        self._checked = True
        try:
            _compare(self._evaluated(code, batch), self.predictor.predict(batch), TOLERANCE[self.dtype])
        except (Deviation, RuntimeError) as error:
            print(f"compiled code is not used ({one_line(error)}); going on without", flush=True)
            self._code = None


def compiled_predictor(predictor: Predictor) -> Predictor:
    """Return a predictor whose energies and forces are native code, made in half a minute where it is not stored.

    Args:
        predictor: a potential or committee, on the CPU.

    Returns:
        A compiled one; where there is no compiler, or something that it cannot compile, a line is printed and the
        predictor comes back as it is.
    """
    return _with_code(predictor, library)


def compiled_for(predictor: Predictor, batch: Batch, steps: int) -> Predictor:
    """Return a compiled predictor where that saves more time than it takes, else the predictor as it is.

    Args:
        predictor: a potential or committee.
        batch: a typical one, on the device of the predictor; evaluated three times.
        steps: how often energies and forces of such a batch will be wanted.
    """
    saved = SAVED * steps * _seconds(lambda: predictor.predict(batch))
    if saved < TRACING_SECONDS:
        return predictor
    return _with_code(predictor, stored if saved < COMPILING_SECONDS else library)


def _seconds(evaluate: Callable[[], object]) -> float:
    """Return the shortest time of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        evaluate()
        times.append(time.perf_counter() - started)
    return min(times)


def _with_code(predictor: Predictor, find: Callable[[GraphModule, Sequence[Tensor]], Library | None]) -> Predictor:
    from piwsl.models.tracing import traced  # with what it imports, a second: for who compiles alone

    started = time.perf_counter()
    try:
        if predictor.device.type != "cpu":
            raise Deviation("code is compiled for CPUs alone")
        code = find(*traced(_members(predictor)[0]))
    except Exception as error:  # whatever a tracer or compiler cannot do, the potential as it stands can
        print(f"the potential is not compiled ({one_line(error)}); going on without", flush=True)
        return predictor
    if code is None:
        return predictor
    print(f"the potential is compiled ({time.perf_counter() - started:.0f} s)", flush=True)
    return CompiledPredictor(predictor, code)


def _compare(found: Prediction, exact: Prediction, tolerance: float) -> None:
    assert found.forces is not None
    assert exact.forces is not None
    for what, ours, theirs in (
        ("energies", found.energies, exact.energies),
        ("forces", found.forces, exact.forces),
    ):
        difference = float((ours - theirs).detach().abs().max()) / max(float(theirs.detach().abs().max()), 1.0)
        if not difference <= tolerance:
            raise Deviation(f"{what} differ from eager ones by {difference:.1e}, more than {tolerance:g}")


def _members(predictor: Predictor) -> list[Potential]:
    """Return the potentials that a predictor is made of."""
    if isinstance(predictor, Committee):
        return predictor.potentials
    assert isinstance(predictor, Potential)
    return [predictor]
