"""Whether a model is a physical one: its forces the slope of its energy, and neither changed by turning the molecule.

No label is in any of it. Models are taken in float64, where rounding hides nothing, and without a baseline, which is
physical by itself and costs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from piwsl.evaluation.predict import predict
from piwsl.models import Predictor, load_model
from piwsl.structures.seeds import generator
from piwsl.structures.structure import Structure

Array = NDArray[np.float64]
MILLI = 1000.0
FRAMES = 3
DIRECTIONS = 4
# Å, of a displacement as a whole: central differences err by h² E'''/6, of a stiff bond some 1e-6 eV/Å.
STEP = 1e-4
# Å, root mean square of coordinates: how far the corners of triangles are from the frame.
CORNER = 0.02
# Gauss and Legendre's points on an edge: networks are rough, and with 5 an untrained PaiNN seems to lose up to 10 meV.
POINTS = 12
# Å, of the translation as a whole.
SHIFT = 10.0


def consistency(model_path: Path, structures: Sequence[Structure]) -> dict[str, float]:
    """Return how far a model is from what every energy surface has, as means over a few frames.

    Args:
        model_path: a model file.
        structures: frames, of which FRAMES are taken, evenly.

    Returns:
        consistency_frames, their number, and root mean squares over them of
        consistency_force_minus_slope_meV_per_A, of `force_minus_slope`;
        consistency_loop_work_meV, of `loop_work`;
        consistency_rotation_energy_meV, consistency_rotation_force_meV_per_A, of `rotation_residuals`, and
        consistency_translation_energy_meV, consistency_translation_force_meV_per_A, of `translation_residuals`.
    """
    potential = load_model(model_path).in_dtype(torch.float64)
    potential.baseline = None
    positions = np.unique(np.linspace(0, len(structures) - 1, FRAMES).round().astype(int))
    found: dict[str, list[Array]] = {}
    for position in positions.tolist():
        structure, rng = structures[position], generator("consistency", 0, position)
        turned, moved = rotation_residuals(potential, structure, rng), translation_residuals(potential, structure, rng)
        for name, residuals in {
            "force_minus_slope_meV_per_A": force_minus_slope(potential, structure, rng),
            "loop_work_meV": np.array([loop_work(potential, structure, rng)]),
            "rotation_energy_meV": turned[0],
            "rotation_force_meV_per_A": turned[1],
            "translation_energy_meV": moved[0],
            "translation_force_meV_per_A": moved[1],
        }.items():
            found.setdefault(f"consistency_{name}", []).append(residuals.ravel())
    means = {name: MILLI * float(np.sqrt(np.square(np.concatenate(all_)).mean())) for name, all_ in found.items()}
    return {"consistency_frames": len(positions), **means}


def force_minus_slope(potential: Predictor, structure: Structure, rng: np.random.Generator) -> Array:
    """Return F·u + [E(r + h u) - E(r - h u)]/2h for random unit vectors u of 3N components, eV/Å.

    The mean of (v·u)² over all directions is |v|²/3N: the root mean square of what is returned estimates that of a
    component of F + ∂E/∂r.

    Args:
        potential: the model; what it corrects is left out.
        structure: the frame, N atoms.
        rng: for directions.

    Returns:
        (DIRECTIONS,).
    """
    shape = structure.positions.shape
    directions = rng.normal(size=(DIRECTIONS, *shape))
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)
    displaced = [at(structure, structure.positions + sign * STEP * u) for u in directions for sign in (1, -1)]
    found = predict(potential, [structure, *displaced])
    along = np.einsum("dni,ni->d", directions, found.forces[0])
    return along + (found.energy[1::2] - found.energy[2::2]) / (2.0 * STEP)


def loop_work(potential: Predictor, structure: Structure, rng: np.random.Generator) -> float:
    """Return the work of the forces once around a triangle of geometries, ∮ F·dr, eV; 0 where there is an energy.

    Args:
        potential: the model; what it corrects is left out.
        structure: the frame, a corner of the triangle.
        rng: for the other corners, displaced by CORNER.
    """
    displaced = structure.positions + CORNER * rng.normal(size=(2, *structure.positions.shape))
    corners = np.stack([structure.positions, *displaced])
    edges = np.roll(corners, -1, axis=0) - corners  # (3, N, 3)
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    shares, weights = 0.5 * (points + 1.0), 0.5 * weights  # on [0, 1]
    path = [
        at(structure, corner + share * edge) for corner, edge in zip(corners, edges, strict=True) for share in shares
    ]
    forces = np.stack(predict(potential, path).forces).reshape(len(edges), POINTS, *edges.shape[1:])
    return float(np.einsum("epni,eni,p->", forces, edges, weights))


def rotation_residuals(potential: Predictor, structure: Structure, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return E(Q r) - E(r), (1,), eV, and Qᵀ F(Q r) - F(r), (N, 3), eV/Å, for a random rotation Q, of the cell too."""
    matrix = Rotation.random(rng=rng).as_matrix()
    turned = replace(at(structure, structure.positions @ matrix.T), cell=structure.cell @ matrix.T)
    found = predict(potential, [structure, turned])
    return np.diff(found.energy), found.forces[1] @ matrix - found.forces[0]


def translation_residuals(potential: Predictor, structure: Structure, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return E(r + t) - E(r), (1,), eV, and F(r + t) - F(r), (N, 3), eV/Å, for a t of length SHIFT."""
    shift = rng.normal(size=3)
    shift *= SHIFT / np.linalg.norm(shift)
    found = predict(potential, [structure, at(structure, structure.positions + shift)])
    return np.diff(found.energy), found.forces[1] - found.forces[0]


def at(structure: Structure, positions: Array) -> Structure:
    """Return a structure elsewhere, (N, 3), Å, without labels."""
    return replace(structure, positions=positions, labels={})
