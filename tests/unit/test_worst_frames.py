"""Frames as the report draws them, and what it says of the worst ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from helpers import plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.evaluation.breakdown import worst_frames
from piwsl.evaluation.predictions import Predictions
from piwsl.report.molecules import LEAST_REACH, drawing, look_of, principal_axes, svg
from piwsl.report.sections.worst_frames import errors_in_words, force_errors, frame_in_words, frames_of_run
from piwsl.report.write import write_report
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import from_atoms


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "C6H6", "CO2"])
def test_a_molecule_is_turned_and_neither_stretched_nor_mirrored(name):
    atoms = molecule(name)
    seen = drawing(atoms).positions
    np.testing.assert_allclose(distances(seen), 100 * distances(atoms.positions), atol=2)  # whole pm
    assert np.linalg.det(principal_axes(atoms.positions)) == pytest.approx(1)


def test_a_hand_stays_a_hand():
    chiral = Atoms("CHFClBr", [[0, 0, 0], [0, 0, 1.1], [1.3, 0, -0.4], [-0.8, 1.4, -0.5], [-0.9, -1.6, -0.6]])
    _, first, second, third, _ = drawing(chiral).positions - drawing(chiral).positions[0]
    a, b, c = chiral.positions[1:4]
    assert np.linalg.det([first, second, third]) / 1e6 == pytest.approx(np.linalg.det([a, b, c]), rel=0.03)


def test_a_planar_molecule_is_seen_from_above_but_for_the_tilt():
    seen = drawing(molecule("C6H6")).positions
    normal = np.linalg.svd(seen)[2][2]
    assert abs(normal[2]) == pytest.approx(np.cos(np.radians(20)) * np.cos(np.radians(25)), abs=0.01)


def test_a_stick_leads_from_ball_to_ball():
    seen = drawing(Atoms("HF", [[0, 0, 0], [0.92, 0, 0]]))
    (stick,) = seen.sticks
    # Radii: 18 + 0.25 * (31, 57) pm.
    assert (look_of("H")["radius"], look_of("F")["radius"]) == (26, 32)
    assert np.linalg.norm(stick[1] - stick[0]) == pytest.approx(92 - 26 - 32, abs=2)
    assert np.linalg.norm(stick[0] - seen.positions[0]) == pytest.approx(26, abs=2)


def test_what_is_far_apart_or_alone_has_no_stick():
    assert len(drawing(Atoms("HF", [[0, 0, 0], [3, 0, 0]])).sticks) == 0
    alone = drawing(Atoms("H"))
    assert (len(alone.sticks), alone.positions.tolist(), alone.reach) == (0, [[0, 0, 0]], LEAST_REACH)
    assert len(drawing(Atoms("HH", [[0, 0, 0], [0.3, 0, 0]])).sticks) == 0  # the balls touch


def test_a_cell_is_a_box_of_twelve_edges_and_no_bond_crosses_it():
    silicon = bulk("Si", cubic=True)
    seen = drawing(silicon)
    lengths = np.linalg.norm(seen.edges[:, 1] - seen.edges[:, 0], axis=1)
    np.testing.assert_allclose(lengths, 12 * [543], atol=2)
    assert 0 < len(seen.sticks) < 16  # 16 bonds with those to neighbouring cells
    assert np.linalg.norm(np.concatenate([seen.positions, seen.edges.reshape(-1, 3)]), axis=1).max() <= seen.reach


def test_letters_stand_out_from_their_balls():
    assert look_of("H") == {"radius": 26, "fill": "#ffffff", "ink": "#000000"}
    assert look_of("N")["ink"] == "#ffffff"
    assert all(look_of(symbol)["fill"] for symbol in ("X", "Og"))


def test_what_is_nearer_is_drawn_later_and_the_ring_last():
    seen = drawing(molecule("H2O"))
    markup = svg(seen, 1)
    order = re.findall("<text [^>]*>(.*?)</text>", markup)
    nearest_last = [seen.symbols[atom] for atom in np.argsort(seen.positions[:, 2], kind="stable")]
    assert order == nearest_last
    assert markup.endswith('r="40"></circle>')
    assert "mark" not in svg(seen, None)


def worst(atoms: Atoms, energy_error: float, force_error, labelled=True, temperature=None) -> Atoms:
    if temperature:
        atoms.info["temperature"] = temperature
    forces = np.zeros((len(atoms), 3))
    structure = from_atoms(atoms).labelled(REFERENCE, Labels(0.0, forces if labelled else None))
    predictions = Predictions(np.array([energy_error]), [forces + force_error], np.full((1, 3, 3), np.nan))
    (frame,) = worst_frames([structure], predictions)
    return frame


def reread(frame: Atoms, folder: Path) -> Atoms:
    write_frames(folder / "worst.xyz", [frame])
    return read_frames(folder / "worst.xyz")[0]


def test_a_frame_is_said_with_its_errors_and_the_atom_of_the_largest(tmp_path):
    off = np.zeros((3, 3))
    off[2] = [0.03, 0.0, 0.04]  # 50 meV/Å on the second hydrogen; root mean square of nine: 50 / 3
    frame = reread(worst(molecule("H2O"), -0.006, off, temperature=300.0), tmp_path)
    np.testing.assert_allclose(force_errors(frame), [0, 0, 50], atol=1e-4)
    assert frame_in_words(frame) == "Frame 0 of the test frames, H2O, sampled at 300 K."
    assert errors_in_words(frame) == (
        "Energy off by −6 meV, −2 meV/atom; force components by 16.7 meV/Å (RMS), most on H2, by 50 meV/Å."
    )


def test_of_what_is_not_labelled_or_no_number_it_is_said(tmp_path):
    unlabelled = reread(worst(molecule("H2O"), 0.003, 0.0, labelled=False), tmp_path)
    assert force_errors(unlabelled) is None
    assert errors_in_words(unlabelled) == "Energy off by +3 meV, +1 meV/atom; its forces are not labelled."
    lost = reread(worst(bulk("Si", cubic=True), 0.008, np.nan), tmp_path)
    assert errors_in_words(lost) == "Energy off by +8 meV, +1 meV/atom; forces by what is no number."
    assert frame_in_words(lost) == "Frame 0 of the test frames, Si8; the box is its cell."


def test_of_large_frames_fewer_are_in_the_page_and_shared_ones_count_once():
    shared, own = bulk("Si", cubic=True), [bulk("NaCl", "rocksalt", a=5.6 + 0.1 * run, cubic=True) for run in range(3)]
    for number, atoms in enumerate([shared, *own]):
        atoms.info["frame"] = number
    frames = [[shared, atoms] for atoms in own]
    for most_atoms, count in ((32, 2), (31, 1), (0, 1)):
        assert frames_of_run(frames, most_atoms) == count
    assert frames_of_run([[shared]], 0) == 1


def test_every_run_is_there_and_frames_that_runs_share_are_there_once(tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path / "runs", experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    page = (tmp_path / "report.html").read_text()
    _, data = [json.loads(found) for found in re.findall('<script type="application/json">(.*?)</script>', page)]
    assert len(data["runs"]) == 8
    assert len(data["drawings"]) == 3
    assert {frame["drawing"] for frame in data["runs"][5]["frames"]} == {0, 1, 2}
    assert data["runs"][1]["title"] == "supervised, 25 frames, seed 1"
    assert re.search(r"<output>Frame \d of the test frames, H. Energy off by \+10 meV, \+10 meV/atom; ", page)
    assert re.search(
        r'aria-label="supervised, 100 frames, seed 0, frame \d, worst in energy and forces: balls and sticks', page
    )
