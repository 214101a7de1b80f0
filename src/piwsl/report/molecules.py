"""Frames as drawings: balls, sticks and the box of a periodic cell, as SVG; molecules.js turns them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import natural_cutoffs, neighbor_list
from markupsafe import Markup
from numpy.typing import NDArray

from piwsl.report.markup import render

PM_AN_ANGSTROM = 100.0
# Atoms closer than this multiple of the sum of their covalent radii are bonded, as in the simulations.
BOND_FACTOR = 1.25
# Radius of a ball: pm, and the share of the covalent radius that is added to it.
BALL, OF_COVALENT = 18.0, 0.25
# The mark of an atom goes around its ball.
MARK_BEYOND = 14
# Of a single atom, too, no less than this is seen around the middle, pm.
LEAST_REACH = 150
# How a frame is turned away from its plane, so that what lies behind is seen; degrees about x, then about y.
TILT = (20.0, -25.0)
# A letter is dark on what is brighter.
BRIGHT = 0.18
# Corners of a box, by which lattice vectors lead there, and the pairs of them that differ by one.
CORNERS = np.array([[(corner >> axis) & 1 for axis in range(3)] for corner in range(8)])
EDGES = [(one, one | 1 << axis) for one in range(8) for axis in range(3) if not one >> axis & 1]
LINE = '<line class="{{ kind }}" x1="{{ a[0] }}" y1="{{ -a[1] }}" x2="{{ b[0] }}" y2="{{ -b[1] }}"></line>'
ATOM = (
    '<circle class="ball" cx="{{ at[0] }}" cy="{{ -at[1] }}" r="{{ look.radius }}" fill="{{ look.fill }}"></circle>'
    '<text x="{{ at[0] }}" y="{{ -at[1] }}" font-size="{{ look.radius }}" fill="{{ look.ink }}">{{ symbol }}</text>'
)
MARK = '<circle class="mark" cx="{{ at[0] }}" cy="{{ -at[1] }}" r="{{ look.radius + beyond }}"></circle>'

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Drawing:
    """A frame as it is seen first; pm from its middle, x to the right, y up, z towards the viewer."""

    symbols: tuple[str, ...]
    """(N,) elements."""
    positions: Ints
    """(N, 3)."""
    sticks: Ints
    """(B, 2, 3), from ball to ball."""
    edges: Ints
    """(12, 2, 3) of the cell; (0, 2, 3) of what is not periodic."""
    reach: int
    """However it is turned, all of it is within this of the middle."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        arrays = {"positions": self.positions, "sticks": self.sticks, "edges": self.edges}
        numbers = {name: array.tolist() for name, array in arrays.items()}
        return {"symbols": list(self.symbols), "reach": self.reach} | numbers


def drawing(atoms: Atoms) -> Drawing:
    """Return how a frame is drawn: a molecule with its longest axis across, a cell with its third vector upwards.

    Bonds of a periodic frame that lead out of one side of the cell are left out.
    """
    symbols = tuple(atoms.get_chemical_symbols())
    edges = (CORNERS @ np.asarray(atoms.cell))[EDGES] if atoms.pbc.any() else np.empty((0, 2, 3))
    if len(edges):
        middle, upright = edges.mean(axis=(0, 1)), turned(np.eye(3), (-90.0, 0.0))
    else:
        middle, upright = atoms.positions.mean(axis=0), principal_axes(atoms.positions)
    view = turned(upright, TILT)
    positions, edges = (PM_AN_ANGSTROM * (points - middle) @ view.T for points in (atoms.positions, edges))
    radii = np.array([look_of(symbol)["radius"] for symbol in symbols])
    ends = np.concatenate([positions, edges.reshape(-1, 3)])
    return Drawing(
        symbols=symbols,
        positions=_whole(positions),
        sticks=_whole(_sticks(positions, radii, _bonds(atoms))),
        edges=_whole(edges),
        reach=max(LEAST_REACH, int(np.linalg.norm(ends, axis=1).max() + radii.max()) + 2 * MARK_BEYOND),
    )


def _whole(values: Array) -> Ints:
    return np.rint(values).astype(np.int64)


def _sticks(positions: Array, radii: NDArray[np.int64], bonds: Ints) -> Array:
    """Return the ends (B, 2, 3) of bonds where they leave the balls; of balls that touch there is none."""
    (first, second), way = bonds.T, positions[bonds[:, 1]] - positions[bonds[:, 0]]
    length = np.linalg.norm(way, axis=1)
    apart = length > radii[first] + radii[second]
    along = way / length[:, None]
    ends = positions[first] + radii[first, None] * along, positions[second] - radii[second, None] * along
    return np.stack(ends, axis=1)[apart]


def principal_axes(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation whose rows are the axes along which positions, (N, 3), spread most, less and least."""
    axes = np.linalg.svd(positions - positions.mean(axis=0))[2]
    axes[2] *= np.sign(np.linalg.det(axes))  # no mirror: hands stay hands
    return np.asarray(axes)


def turned(view: NDArray[np.float64], degrees: tuple[float, float]) -> NDArray[np.float64]:
    """Return a view, (3, 3), turned about x, then about y."""
    (cx, cy), (sx, sy) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    return np.asarray(about_y @ about_x @ view)


def _bonds(atoms: Atoms) -> Ints:
    alone = Atoms(atoms.numbers, atoms.positions)
    first, second = neighbor_list("ij", alone, natural_cutoffs(alone, mult=BOND_FACTOR))
    return np.asarray(np.stack([first, second], axis=1)[first < second], dtype=np.int64)


def look_of(symbol: str) -> dict[str, Any]:
    """Return radius (pm), colour (Jmol's) and the colour of the letter of an element."""
    number = chemical_symbols.index(symbol)
    colour = jmol_colors[min(number, len(jmol_colors) - 1)]
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    bright = linear @ (0.2126, 0.7152, 0.0722) > BRIGHT
    return {
        "radius": round(BALL + OF_COVALENT * PM_AN_ANGSTROM * float(covalent_radii[number])),
        "fill": "#" + "".join(f"{round(255 * part):02x}" for part in colour.tolist()),
        "ink": "#000000" if bright else "#ffffff",
    }


def svg(seen: Drawing, marked: int | None) -> Markup:
    """Return what is inside the SVG of a drawing, from behind to the front, as molecules.js draws it.

    Args:
        seen: it.
        marked: an atom with a ring around it.
    """
    drawn = Markup("").join(markup for _, markup in sorted(_parts(seen), key=lambda part: part[0]))
    if marked is None:
        return drawn
    look = look_of(seen.symbols[marked])
    return drawn + render(MARK, at=seen.positions[marked].tolist(), look=look, beyond=MARK_BEYOND)


def _parts(seen: Drawing) -> Iterator[tuple[float, Markup]]:
    """Yield depth and markup of edges, bonds and atoms."""
    for kind, lines in (("edge", seen.edges), ("stick", seen.sticks)):
        for a, b in lines.tolist():
            yield (a[2] + b[2]) / 2, render(LINE, kind=kind, a=a, b=b)
    for symbol, at in zip(seen.symbols, seen.positions.tolist(), strict=True):
        yield at[2], render(ATOM, at=at, look=look_of(symbol), symbol=symbol)
