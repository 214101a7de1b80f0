"""The test frames with the largest errors, drawn in 3D, of a run that is chosen in the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.report.context import Context
from piwsl.report.markup import render, rounded
from piwsl.report.molecules import BOND_FACTOR, MARK_BEYOND, Drawing, drawing, look_of, svg
from piwsl.report.sections import ReportSection
from piwsl.report.words import run_in_words
from piwsl.structures.frames import FORCES_KEY, read_frames

MILLI = 1000.0
# In the page, of all runs: some 60 bytes each.
MOST_ATOMS = 30_000
TEMPLATE = """\
<p>The test frames of a run with the largest errors of the energy per atom or of the forces. The ring is around the atom
with the largest error of its force. Bonds are drawn between atoms closer than {{ "%g" | format(factor) }} times the sum
of their covalent radii. {{ count }} of a run are here at most; all of them are in <code>worst.xyz</code> beside each
model.</p>
<div class="frames">
<p class="choice" hidden>
<label>Run <select>
{% for title in titles %}<option value="{{ loop.index0 }}"{% if loop.index0 == first %} selected{% endif %}>
{{- title }}</option>{% endfor %}
</select></label>
<label>Frame <select></select></label></p>
<figure class="frame">
<div class="turn"><svg role="img" aria-label="{{ alternative }}"
viewBox="-{{ reach }} -{{ reach }} {{ 2 * reach }} {{ 2 * reach }}">{{ drawn }}</svg></div>
<figcaption><output>{{ said }}</output></figcaption>
</figure>
<script type="application/json">{{ data | tojson }}</script>
</div>
"""


class WorstFrames(ReportSection):
    """A drawing for each dataset and model."""

    title = "Worst frames"
    place = 23
    each = True

    def html(self, context: Context) -> str:
        """Return the drawing, and what chooses its run and frame."""
        table, drawings = context.runs, _Drawings()
        frames = {index: read_frames(context.files[index].worst) for index in table.index}
        count = frames_of_run(list(frames.values()), MOST_ATOMS * len(table) // len(context.files))
        runs: list[dict[str, Any]] = [
            {"title": f"{loss}, {run_in_words(size, seed)}",
             "frames": [drawings.shown(atoms) for atoms in frames[index][:count]]}
            for index, loss, size, seed in zip(table.index, table["loss"], table["size"], table["seed"], strict=True)
        ]  # fmt: skip
        titles = [run["title"] for run in runs]
        which, files = context.example()
        first = titles.index(f"{next(iter(files))}, {which}")
        shown = runs[first]["frames"][0]
        seen = drawings.seen[shown["drawing"]]
        return render(
            TEMPLATE,
            factor=BOND_FACTOR,
            count=count,
            titles=titles,
            first=first,
            alternative=alternative(titles[first], shown),
            said=f"{drawings.said[shown['drawing']]} {shown['said']}",
            reach=seen.reach,
            drawn=svg(seen, shown["marked"]),
            data={"runs": runs} | drawings.plain(),
        )


def frames_of_run(frames: Sequence[Sequence[Atoms]], most_atoms: int) -> int:
    """Return how many frames of each run the page holds, one or more.

    Args:
        frames: those of each run, the worst first; many are of several runs, and are held once.
        most_atoms: in all of them.
    """
    for count in range(max(map(len, frames)), 1, -1):
        atoms = {_Drawings.key(atoms): len(atoms) for of_run in frames for atoms in of_run[:count]}
        if sum(atoms.values()) <= most_atoms:
            return count
    return 1


def alternative(run: str, shown: dict[str, Any]) -> str:
    """Return what a drawing shows in a sentence, as molecules.js says it."""
    ring = f", a ring around {shown['label']}" if shown["label"] else ""
    return f"{run}, frame {shown['title']}: balls and sticks{ring}."


class _Drawings:
    """Frames as they are drawn, each once: runs share their worst frames."""

    def __init__(self) -> None:
        self.seen: list[Drawing] = []
        self.said: list[str] = []
        self._numbers: dict[tuple[str, bytes], int] = {}

    def shown(self, atoms: Atoms) -> dict[str, Any]:
        """Return what the page needs to show a frame with the errors of one run."""
        errors = force_errors(atoms)
        marked = None if errors is None or np.isnan(errors).all() else int(np.nanargmax(errors))
        return {
            "drawing": self._number(atoms),
            "title": f"{atoms.info['frame']}, worst in {atoms.info['worst_in']}",
            "marked": marked,
            "label": "" if marked is None else f"{atoms.symbols[marked]}{marked}",
            "said": errors_in_words(atoms),
        }

    @staticmethod
    def key(atoms: Atoms) -> tuple[str, bytes]:
        """Return what two frames share that are one."""
        return frame_in_words(atoms), atoms.positions.tobytes()

    def _number(self, atoms: Atoms) -> int:
        key = self.key(atoms)
        if key not in self._numbers:
            self._numbers[key] = len(self.seen)
            self.seen.append(drawing(atoms))
            self.said.append(key[0])
        return self._numbers[key]

    def plain(self) -> dict[str, Any]:
        """Return frames, and how their elements look, as JSON takes them."""
        elements = dict.fromkeys(symbol for seen in self.seen for symbol in seen.symbols)
        return {
            "drawings": [seen.plain() | {"said": said} for seen, said in zip(self.seen, self.said, strict=True)],
            "looks": {"mark": MARK_BEYOND, "elements": {symbol: look_of(symbol) for symbol in elements}},
        }


def force_errors(atoms: Atoms) -> NDArray[np.float64] | None:
    """Return how long the error of the force on each atom is, (N,), meV/Å; None where no force is labelled."""
    if FORCES_KEY not in atoms.arrays:
        return None
    return np.asarray(MILLI * np.linalg.norm(atoms.arrays["forces"] - atoms.arrays[FORCES_KEY], axis=1))


def frame_in_words(atoms: Atoms) -> str:
    """Return which frame one is."""
    at = f", sampled at {atoms.info['temperature']:g} K" if "temperature" in atoms.info else ""
    box = "; the box is its cell" if atoms.pbc.any() else ""
    return f"Frame {atoms.info['frame']} of the test frames, {atoms.get_chemical_formula()}{at}{box}."


def errors_in_words(atoms: Atoms) -> str:
    """Return the errors of a frame, as `piwsl.evaluation.breakdown.worst_frames` keeps them."""
    said = "Its energy is not labelled"
    if "energy_error_meV" in atoms.info:
        energy = float(atoms.info["energy_error_meV"])
        said = f"Energy off by {_signed(energy)} meV, {_signed(energy / len(atoms))} meV/atom"
    errors = force_errors(atoms)
    if errors is None:
        return f"{said}; its forces are not labelled."
    if np.isnan(errors).all():
        return f"{said}; forces by what is no number."
    atom = int(np.nanargmax(errors))
    rmse = rounded(float(atoms.info["force_rmse_meV_per_A"]), 3)
    largest = rounded(float(errors[atom]), 3)
    return f"{said}; force components by {rmse} meV/Å (RMS), most on {atoms.symbols[atom]}{atom}, by {largest} meV/Å."


def _signed(value: float) -> str:
    if np.isnan(value):
        return "what is no number in"
    return rounded(value, 3).replace("-", "−") if value < 0 else f"+{rounded(value, 3)}"
