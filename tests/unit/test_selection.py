"""Which geometries are labelled: where they come from, how they are chosen, how they are cut into jobs."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io.trajectory import Trajectory
from helpers import displaced
from pydantic import ValidationError
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from piwsl.config import ComputedDataset, ConfigError, Experiment, Geometries, Molecule
from piwsl.config.datasets import ROUND
from piwsl.errors import PiwslError
from piwsl.preflight import check_experiment, costly_datasets
from piwsl.reference import geometries
from piwsl.reference.bases import check_functional
from piwsl.reference.batches import select, split_geometries
from piwsl.reference.checks import check_computed_dataset
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.geometries import indices_of, indices_of_parts, load_molecule, read_geometries
from piwsl.reference.labelling import label_frames
from piwsl.reference.planning import (
    RECORD_KILOBYTES,
    KnownFrames,
    LabellingJob,
    Planned,
    frame_cost,
    label_batches,
    plan_dataset,
    structures,
    warning,
)
from piwsl.reference.selection import candidates_needed, descriptors, farthest_points, in_turn
from piwsl.reference.smiles import EMBEDDING_SEED, from_smiles
from piwsl.reference.tight_binding import gfn2
from piwsl.structures.frames import ENERGY_KEY, read_frames, too_close, write_frames

HF = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})


def cloud(count: int, seed: int = 0) -> list[Atoms]:
    """Return water molecules, most near the minimum and every twentieth far from it."""
    rng = np.random.default_rng(seed)
    return [displaced("H2O", 0.15 if number % 20 == 19 else 0.01, rng) for number in range(count)]


def test_series_are_taken_in_turn():
    a, b = list("abc"), list("xy")
    assert in_turn([a, b])[:4] == ["a", "x", "b", "y"]
    assert in_turn([a, b]) == ["a", "x", "b", "y", "c"]


def test_descriptors_do_not_see_translation_rotation_or_the_order_of_like_atoms():
    atoms = displaced("CH3OH", 0.05, np.random.default_rng(0))
    moved = atoms.copy()
    moved.rotate(50, (1, 2, 3))
    moved.translate((1, 2, 3))
    swapped = moved[[0, 1, 3, 2, 5, 4]]
    vectors = descriptors([atoms, moved, swapped, molecule("H2O")])
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-12)
    np.testing.assert_allclose(vectors[2], vectors[0], atol=1e-12)
    assert np.abs(vectors[3] - vectors[0]).max() > 0.1


def test_farthest_points_find_what_is_unlike_the_rest():
    frames = cloud(ROUND * 4)
    chosen = farthest_points(frames, wanted=8, candidates=4)
    unusual = {number for number in range(len(frames)) if number % 20 == 19}
    assert len(unusual & set(chosen[1:])) == len(unusual)


def test_farthest_points_are_no_worse_spread_than_frames_in_turn():
    frames = cloud(ROUND * 4, seed=1)
    vectors = descriptors(frames)

    def covering_radius(chosen: list[int]) -> float:
        return max(min(np.linalg.norm(vector - vectors[pick]) for pick in chosen) for vector in vectors)

    assert covering_radius(farthest_points(frames, 16, candidates=4)) < covering_radius(list(range(16)))


def test_the_bound_on_dynamics_counts_whole_rounds_of_candidates():
    sampled = {"selection": "farthest_point", "candidates": 10, "training_frames": 1, "test_frames": 1}
    stride = int(5e7) // candidates_needed(1, candidates=10)
    dataset(sampling={"temperatures": [300], "stride": stride}, **sampled)
    with pytest.raises(ValueError, match=r"sampling.stride: .* steps of dynamics for all frames"):
        dataset(sampling={"temperatures": [300], "stride": stride + 1}, **sampled)


@pytest.mark.parametrize("few", [1, 20, ROUND, ROUND + 5])
def test_more_farthest_points_begin_with_the_fewer(few):
    many = 2 * ROUND + 3
    frames = cloud(candidates_needed(many, candidates=3))
    chosen = farthest_points(frames[: candidates_needed(few, candidates=3)], few, candidates=3)
    assert chosen == farthest_points(frames, many, candidates=3)[:few]
    assert len(set(farthest_points(frames, many, candidates=3))) == many


def test_all_frames_can_be_chosen_where_there_are_few():
    frames = cloud(ROUND + 3)
    assert sorted(farthest_points(frames, ROUND + 3, candidates=4)) == list(range(ROUND + 3))


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
def test_geometries_come_from_any_file_that_ase_reads(tmp_path, suffix):
    frames = cloud(12)
    frames[3].info["charge"] = 1
    path = tmp_path / f"mine{suffix}"
    if suffix == ".traj":
        with Trajectory(path, "w") as writer:
            for atoms in frames:
                writer.write(atoms)
    else:
        ase.io.write(path, frames)
    found = read_geometries(Geometries(file=path, multiplicity=3))
    assert [atoms.info["frame"] for atoms in found[:2]] == ["mine-0", "mine-1"]
    assert {atoms.info["multiplicity"] for atoms in found} == {3}
    assert [atoms.info["charge"] for atoms in found] == [atoms.info.get("charge", 0) for atoms in frames]
    np.testing.assert_allclose(found[5].positions, frames[5].positions, atol=1e-8)


def test_blocks_of_a_trajectory_are_kept_apart(tmp_path):
    geometries = Geometries(file=Path("x.xyz"), blocks=10, test_fraction=0.3)
    parts = indices_of_parts(geometries, {geometries.file: 100})
    assert sorted([*parts["training"], *parts["test"]]) == list(range(100))
    blocks = {part: {int(index) // 10 for index in indices} for part, indices in parts.items()}
    assert len(blocks["test"]) == 3
    assert not blocks["test"] & blocks["training"]
    # The first few frames come from different blocks.
    assert len({int(index) // 10 for index in parts["training"][:7]}) == 7


def test_a_pool_takes_frames_of_blocks_for_training_and_changes_no_other(tmp_path):
    geometries = Geometries(file=Path("x.xyz"), blocks=10, test_fraction=0.3)
    frames = {geometries.file: 100}
    without, parts = indices_of_parts(geometries, frames), indices_of_parts(geometries, frames, pool_frames=25)
    assert len(without["pool"]) == 0
    assert len(parts["pool"]) == 25
    assert sorted(np.concatenate([*parts.values()])) == list(range(100))
    np.testing.assert_array_equal(parts["test"], without["test"])
    np.testing.assert_array_equal(parts["training"], without["training"][:45])
    # They, too, come from all blocks.
    assert len({int(index) // 10 for index in parts["pool"]}) == 7


def test_files_for_test_and_pool_are_taken_whole():
    own, test, pool = Path("x.xyz"), Path("test.xyz"), Path("pool.xyz")
    parts = indices_of_parts(
        Geometries(file=own, test_file=test, pool_file=pool), {own: 100, test: 20, pool: 50}, pool_frames=25
    )
    assert {part: sorted(indices) for part, indices in parts.items()} == {
        "training": list(range(100)),
        "test": list(range(20)),
        "pool": list(range(50)),
    }
    # The first few come from everywhere.
    assert max(parts["test"][:5]) > 5


def test_beside_a_test_file_the_pool_is_what_training_leaves():
    own, test = Path("x.xyz"), Path("test.xyz")
    parts = indices_of_parts(Geometries(file=own, test_file=test), {own: 100, test: 20}, pool_frames=25)
    assert [len(parts[part]) for part in ("training", "test", "pool")] == [75, 20, 25]
    assert sorted([*parts["training"], *parts["pool"]]) == list(range(100))


@pytest.mark.parametrize("part", ["training", "test", "pool"])
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"blocks": 5, "test_fraction": 0.4},
        {"pool_file": Path("p.xyz")},
        {"pool_file": Path("p.xyz"), "blocks": 5, "test_fraction": 0.4},
        {"test_file": Path("t.xyz")},
        {"test_file": Path("t.xyz"), "pool_file": Path("p.xyz"), "charge": 1},
    ],
)
def test_a_part_sees_what_decides_its_frames_and_no_more(said, part):
    geometries = Geometries(file=Path("x.xyz"), seed=3, **said)
    seen = Geometries.model_validate(geometries.of_part(part).beyond_defaults())
    assert seen.file_of(part) == geometries.file_of(part)
    np.testing.assert_array_equal(indices_of(part, 60, seen, 7), indices_of(part, 60, geometries, 7))
    others = {geometries.file_of(other) for other in ("training", "test", "pool")} - {geometries.file_of(part)}
    assert not others & set(seen.files.values())


def test_geometries_keep_the_temperature_they_were_sampled_at(tmp_path):
    frames = cloud(3)
    frames[0].info["temperature"], frames[1].info["temperature"] = 300.0, "hot"
    ase.io.write(tmp_path / "mine.xyz", frames)
    found = read_geometries(Geometries(file=tmp_path / "mine.xyz"))
    assert [atoms.info.get("temperature") for atoms in found] == [300.0, None, None]


def test_a_part_of_given_geometries_is_written_as_frames(tmp_path):
    ase.io.write(tmp_path / "mine.xyz", cloud(20))
    split_geometries(Geometries(file=tmp_path / "mine.xyz", blocks=4), "test", tmp_path / "test.xyz")
    assert len(read_frames(tmp_path / "test.xyz")) == 5


def test_a_smiles_string_becomes_a_molecule():
    ethanol = load_molecule(Molecule(smiles="CCO"))
    assert ethanol.get_chemical_formula() == "C2H6O"
    distances = ethanol.get_all_distances() + 10 * np.eye(9)
    assert 0.9 < distances.min() < 1.2
    np.testing.assert_array_equal(load_molecule(Molecule(smiles="CCO")).positions, ethanol.positions)
    ammonium = load_molecule(Molecule(smiles="[NH4+]", charge=1))
    assert (len(ammonium), ammonium.info["charge"]) == (5, 1)


@pytest.mark.parametrize("smiles", ["CCO", "NCC(=O)O", "[OH-]", "[Zn]"])
def test_one_molecule_has_the_geometry_that_rdkit_gives_by_itself(smiles):
    full = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(full, randomSeed=EMBEDDING_SEED)
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(full):
        rdForceFieldHelpers.MMFFOptimizeMolecule(full, maxIters=2000)
    found = from_smiles(smiles, Chem.GetFormalCharge(full))
    np.testing.assert_array_equal(found.positions, full.GetConformer().GetPositions())


@pytest.mark.parametrize(
    ("smiles", "symbols"),
    [
        ("O.O", "O2H4"),
        ("CCO.O", "C2O2H8"),
        ("CC.CC", "C4H12"),
        ("[Na+].[Cl-]", "NaCl"),
        ("[NH4+].[Cl-]", "NClH4"),
        ("O=O.O", "O3H2"),  # MMFF94 has no parameters of O2
        ("O.O.O.O", "O4H8"),
    ],
)
def test_molecules_of_a_smiles_string_lie_side_by_side(smiles, symbols):
    found = from_smiles(smiles, 0)
    assert str(found.symbols) == symbols
    parts = Chem.GetMolFrags(Chem.AddHs(Chem.MolFromSmiles(smiles)))
    assert len(parts) == smiles.count(".") + 1
    distances = found.get_all_distances()
    for part in map(list, parts):
        others = np.setdiff1d(np.arange(len(found)), part)
        assert 1.5 < distances[np.ix_(part, others)].min() < 4.0
    assert too_close(found) is None


@pytest.mark.parametrize("smiles", ["O.O", "CCO.O", "CC(=O)O.CC(=O)O"])
def test_molecules_of_a_smiles_string_attract_each_other(smiles):
    def energy(part: str) -> float:
        atoms = from_smiles(part, 0)
        atoms.calc = gfn2(0, 1)
        return atoms.get_potential_energy()

    # eV; a hydrogen bond has about 0.2 where it is relaxed.
    assert energy(smiles) < sum(map(energy, smiles.split("."))) - 0.05


def test_nothing_is_said_of_elements_that_the_force_field_does_not_know(capfd):
    for smiles in ("[Zn]", "[He]", "C[Zn]C"):
        from_smiles(smiles, 0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        (Molecule(smiles="C1CC"), "not a SMILES string"),
        (Molecule(smiles="*C"), "has an atom that may be any"),
        (Molecule(smiles="[NH4+]"), r"has charge \+1, and charge says \+0"),
        (Molecule(smiles="[Na+].[Na+]", charge=2), "in which its molecules lie side by side, within 5 Å; give one as"),
    ],
)
def test_a_smiles_string_that_cannot_be_meant_is_refused(molecule, message):
    with pytest.raises(PiwslError, match=message):
        load_molecule(molecule)


def periodic() -> Atoms:
    return Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]], cell=[5, 5, 5], pbc=True)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([periodic()], "start.* is periodic; reference energies are of molecules"),
        ([molecule("H2O"), molecule("H2O")], "start.* has 2 frames; leave one to start from, or .*geometries"),
    ],
)
@pytest.mark.parametrize("suffix", [".xyz", ".XYZ", ".traj"])
def test_a_file_to_start_from_is_one_molecule(tmp_path, frames, message, suffix):
    path = tmp_path / f"start{suffix}"
    ase.io.write(path, frames, format="traj" if suffix == ".traj" else "extxyz")
    with pytest.raises(PiwslError, match=message):
        load_molecule(Molecule(file=path))


OXYGEN = ["O 0.0 0.0 0.0", "O 0.0 0.0 1.21"]
# A dianion, whose charges are formal ones of two atoms.
MDL = """
     RDKit          3D

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  0  0  0  0  0  0  0  0  0  0  0
    0.0000    0.0000    1.4900 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
M  CHG  2   1  -1   2  -1
M  END
"""
ELECTRONS_SAID = {
    "start.xyz": ("\n".join(["2", "multiplicity=3 charge=0", *OXYGEN, ""]), {"multiplicity": 3}),
    "start.extxyz": ("\n".join(["2", "total_spin=3", *OXYGEN, ""]), {"multiplicity": 3}),
    "start.gjf": ("\n".join(["#p hf/sto-3g", "", "oxygen", "", "0 3", *OXYGEN, "", ""]), {"multiplicity": 3}),
    "start.mol": (MDL, {"charge": -2}),
    "start.sdf": (f"{MDL}$$$$\n", {"charge": -2}),
}


@pytest.mark.parametrize("name", ELECTRONS_SAID)
def test_a_file_of_other_electrons_than_the_config_says_is_refused(tmp_path, name):
    """Nothing else tells triplet oxygen from the singlet, or a dianion from the neutral molecule."""
    text, said = ELECTRONS_SAID[name]
    path = tmp_path / name
    path.write_text(text)
    ((key, number),) = said.items()
    with pytest.raises(PiwslError, match=f"says {key} {number}, and the config {key} {0 if key == 'charge' else 1}"):
        load_molecule(Molecule(file=path))
    assert load_molecule(Molecule(file=path, **said)).info == {"charge": 0, "multiplicity": 1} | said
    (frame,) = read_geometries(Geometries(file=path))
    assert frame.info[key] == number


@pytest.mark.parametrize(
    "load", [lambda path: load_molecule(Molecule(file=path)), lambda path: read_geometries(Geometries(file=path))]
)
def test_what_our_reader_says_of_a_file_is_said_once(tmp_path, load):
    path = tmp_path / "mine.XYZ"
    path.write_text("2\n\nH 0 0 0\n")
    with pytest.raises(PiwslError) as caught:
        load(path)
    assert str(caught.value).count(str(path)) == 1
    assert "cannot be read" not in str(caught.value)


def test_geometries_to_compute_are_of_elements_at_places_and_those_that_overlap_fail_later(tmp_path):
    path = tmp_path / "mine.traj"
    overlapping = Atoms("OHH", positions=[[0, 0, 0], [0, 0, 0], [0, 0, 1]])
    given = dataset(molecule=None, sampling=None, geometries={"file": path}, training_frames=2, test_frames=1)
    ase.io.write(path, [*cloud(5), overlapping])
    check_computed_dataset("d", given, HF)
    nowhere = molecule("H2O")
    nowhere.positions[1] = np.nan
    unknown = molecule("H2O")
    unknown.numbers[0] = 0
    for odd, message in ((nowhere, "no place"), (unknown, "atomic number 0, which is no element")):
        ase.io.write(path, [*cloud(5), odd])
        with pytest.raises(ConfigError, match=f"d.geometries: frame 5 of {path}: .*{message}"):
            check_computed_dataset("d", given, HF)


def test_a_molecule_whose_atoms_lie_on_one_another_is_refused(tmp_path):
    path = tmp_path / "start.xyz"
    ase.io.write(path, Atoms("OHH", positions=[[0, 0, 0], [0, 0, 0], [0, 0, 1]]))
    with pytest.raises(ConfigError, match=r"d.molecule: frame 0 of .*start.xyz: atom 0 \(O\) and atom 1 .* apart"):
        check_computed_dataset("d", dataset(molecule={"file": path}), HF)


def dataset(**keys: object) -> ComputedDataset:
    given = {"molecule": {"name": "H2O"}, "sampling": {"temperatures": [300, 600]}, "level": "x"}
    return ComputedDataset.model_validate(given | {"training_frames": 100, "test_frames": 10} | keys)


def batches_of(section: ComputedDataset, level: PySCF) -> dict[tuple[str, str], LabellingJob]:
    return label_batches(section, structures(section), level)


def test_every_frame_is_in_one_job():
    batches = batches_of(dataset(test_force_frames=3, labelling={"frames_per_job": 30}), HF)
    frames = {"training": [], "test": []}
    for batch in batches.values():
        frames[batch.part] += range(batch.start, batch.stop)
    assert frames == {"training": list(range(100)), "test": list(range(10))}
    assert [batch.stop - batch.start for (labels, _), batch in batches.items() if labels == "training"] == [
        30,
        30,
        30,
        10,
    ]


def test_jobs_are_sized_by_the_estimated_cost():
    costly = PySCF.model_validate({"preset": "dft"})
    batches = batches_of(dataset(training_frames=2000, molecule={"name": "C2H6"}, training_forces=True), costly)
    training = [batch for (labels, _), batch in batches.items() if labels == "training"]
    assert all(batch.forces == "analytic" for batch in training)
    assert all(10 * 60 <= batch.cpu_s <= 30 * 60 for batch in training[:-1])
    assert all(batch.runtime * 60 > 2 * batch.cpu_s for batch in training)
    assert len(batches_of(dataset(), HF)) == 2


def test_forces_are_analytic_where_they_can_be_and_differences_where_asked():
    def forces(level: PySCF, **keys: str) -> str | None:
        batches = batches_of(dataset(test_force_frames=2, **keys), level)
        return next(batch.forces for (labels, _), batch in batches.items() if labels == "test-forces")

    composite = PySCF.model_validate({"preset": "ccsdt-cbs"})
    assert forces(HF) == "analytic"
    assert forces(HF, forces_by="differences") == "differences"
    assert forces(composite) == "analytic"
    sharper = PySCF.model_validate({"preset": "ccsdt-cbs-tz"})
    assert forces(sharper) == "differences"
    with pytest.raises(ConfigError, match=r"datasets.d.forces_by: DF-\[FNO.* has no analytic gradient"):
        check_computed_dataset("d", dataset(test_force_frames=2, forces_by="analytic"), sharper)


def test_displaced_energies_of_a_costly_frame_are_dealt_out_to_jobs_of_their_own():
    composite = PySCF.model_validate({"preset": "ccsdt-cbs"})
    section = dataset(test_force_frames=2, molecule={"name": "C6H6"}, forces_by="differences")
    for (labels, _), batch in batches_of(section, composite).items():
        assert (batch.shares > 1) == (labels == "test-forces")
        if batch.shares:
            assert 5 * 60 <= batch.cpu_s / batch.shares <= 20 * 60
            assert batch.runtime <= batch.share_runtime < 3 * batch.cpu_s / 60
    assert all(batch.shares == 0 for batch in batches_of(dataset(test_force_frames=2), composite).values())


def test_a_cost_grows_with_molecule_basis_and_method():
    def cost(name: str, **level: str):
        return frame_cost([molecule(name)], PySCF.model_validate(level), None)

    costs = [
        cost("H2O", method="mp2", basis="cc-pvdz"),
        cost("H2O", method="mp2", basis="cc-pvqz"),
        cost("CH3CH2OH", method="mp2", basis="cc-pvqz"),
        cost("CH3CH2OH", method="ccsd", basis="cc-pvqz"),
        cost("CH3CH2OH", method="ccsd(t)", basis="cc-pvqz"),
    ]
    assert [one.cpu_s for one in costs] == sorted(one.cpu_s for one in costs)
    assert [one.memory_mb for one in costs] == sorted(one.memory_mb for one in costs)


@pytest.mark.parametrize(("name", "coordinates"), [("NH3", 6), ("CO2", 4), ("CO", 1)])
def test_differences_cost_four_energies_an_internal_coordinate_of_bent_and_linear_molecules(name, coordinates):
    level = PySCF.model_validate({"preset": "ccsdt-cbs"})
    alone, with_forces = (frame_cost([molecule(name)], level, forces) for forces in (None, "differences"))
    displaced = level.displaced_cost(molecule(name), 0, 1)
    assert with_forces.cpu_s == pytest.approx(alone.cpu_s + 4 * coordinates * displaced.cpu_s)
    assert with_forces.energies == 1 + 4 * coordinates


def test_a_plan_counts_the_energies_that_labelling_computes(tmp_path):
    frames = [molecule("CO2") for _ in range(2)]
    write_frames(tmp_path / "frames.xyz", frames)
    given = dataset(molecule={"name": "CO2"}, test_force_frames=1, test_frames=1, forces_by="differences")
    row = next(
        row for row in plan_dataset("d", given, HF, KnownFrames(tmp_path), tmp_path) if row.labels == "test-forces"
    )
    label_frames(frames[:1], HF, tmp_path / "labels", "differences", 1000, progress=lambda line: None)
    records = [path for path in (tmp_path / "labels").rglob("*.json") if path.name not in ("level.json", "part.json")]
    assert row.disk_mb == pytest.approx(len(records) * RECORD_KILOBYTES / 1000)


def test_given_geometries_are_read_once_for_checks_jobs_and_once_for_warnings(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "mine.xyz", [molecule("C6H6") for _ in range(4)])
    section = {"geometries": {"file": "mine.xyz"}, "level": "ccsdt-cbs", "training_frames": 2, "test_frames": 1}
    keys = {"experiment": "e", "models": {"painn": {"architecture": "painn"}}, "losses": {"supervised": {}}}
    keys["levels"] = {"ccsdt-cbs": {"preset": "ccsdt-cbs"}}
    monkeypatch.chdir(tmp_path)
    given = ComputedDataset.model_validate(section | {"labelling": {"runtime": 1}})
    experiment = Experiment.model_validate(keys | {"datasets": {"d": given}, "sizes": [2], "seeds": [0]})
    reads = []
    read = geometries._frames_of
    monkeypatch.setattr(geometries, "_frames_of", lambda path: reads.append(path) or read(path))
    check_experiment(experiment, "config.yaml")
    assert len(reads) == 1
    (line,) = costly_datasets(experiment)
    assert "mp2-cbs about" in line
    assert len(reads) == 2
    assert list(plan_dataset("d", given, HF, KnownFrames(tmp_path), tmp_path))
    assert len(reads) == 3


def test_a_plan_finds_what_is_stored_of_files_before_their_frames_are_cut(tmp_path):
    ase.io.write(tmp_path / "mine.xyz", cloud(12))
    ase.io.write(tmp_path / "others.xyz", cloud(3))
    files = {"file": str(tmp_path / "mine.xyz"), "blocks": 4, "pool_file": str(tmp_path / "others.xyz")}
    given = ComputedDataset.model_validate(
        {"geometries": files, "level": "hf", "training_frames": 5, "test_frames": 2, "pool_frames": 3}
    )
    for part, number in (("test", 2), ("training", 5)):
        split_geometries(given.geometries, part, tmp_path / "candidates.xyz")
        select([tmp_path / "candidates.xyz"], number, tmp_path / "made" / f"{part}.xyz", None)
    label_frames(read_frames(tmp_path / "made" / "training.xyz")[:4], HF, tmp_path / "labels", None, 1000)
    known = KnownFrames(tmp_path / "nothing made", given)
    rows = list(plan_dataset("d", given, HF, known, tmp_path / "labels"))
    assert [(row.labels, row.frames, row.stored) for row in rows] == [("training", 5, 4), ("test", 2, 0)]
    for part in ("training", "test"):
        made = read_frames(tmp_path / "made" / f"{part}.xyz")
        assert [frame.positions.tolist() for frame in known.of_part(part)] == [each.positions.tolist() for each in made]
    whole = next(plan_dataset("d", given, HF, known, tmp_path / "none"))
    far = given.model_copy(update={"selection": "farthest_point", "candidates": 1})
    chosen = next(plan_dataset("d", far, HF, KnownFrames(tmp_path, far), tmp_path / "labels"))
    left = 1 - 4 / len(read_frames(tmp_path / "candidates.xyz"))
    assert (chosen.stored, chosen.cpu_hours) == (None, pytest.approx(left * whole.cpu_hours))
    # An edit asks for more than were made.
    write_frames(tmp_path / "fewer" / "frames" / "training.xyz", known.of_part("training")[:2])
    for dataset in (given, None):
        fewer = next(plan_dataset("d", given, HF, KnownFrames(tmp_path / "fewer", dataset), tmp_path / "labels"))
        assert fewer.cpu_hours == pytest.approx(whole.cpu_hours * (1 if dataset else 3) / 5)


def test_plans_that_share_frames_count_their_energies_once(tmp_path):
    write_frames(tmp_path / "few" / "frames" / "training.xyz", cloud(2))
    write_frames(tmp_path / "many" / "frames" / "training.xyz", cloud(6))
    planned = Planned()
    hours = [
        next(
            plan_dataset(name, dataset(training_frames=frames), HF, KnownFrames(tmp_path / name), tmp_path, planned)
        ).cpu_hours
        for name, frames in (("few", 2), ("many", 6), ("many", 6))
    ]
    assert hours == [pytest.approx(hours[0]), pytest.approx(2 * hours[0]), 0]


def test_a_plan_of_rounds_counts_the_share_of_the_candidates_that_is_not_stored(tmp_path):
    write_frames(tmp_path / "data" / "frames" / "training.xyz", cloud(8))
    rounds = {"start": 2, "rounds": 1, "each": 2, "by": "random"}
    chosen = dataset(training_frames=8, acquisition=rounds)
    known = KnownFrames(tmp_path / "data")
    label_frames(known.of_part("training")[:6], HF, tmp_path / "labels", None, 1000)
    found, full = (
        {row.labels: row for row in plan_dataset("d", chosen, HF, known, tmp_path / store)}
        for store in ("labels", "empty")
    )
    assert found["round-1"].stored is None
    assert found["round-1"].cpu_hours == pytest.approx(full["round-1"].cpu_hours / 4)
    assert found["test"].cpu_hours == full["test"].cpu_hours > 0


def test_a_plan_counts_what_is_stored_already(tmp_path):
    frames = cloud(4)
    write_frames(tmp_path / "data" / "frames" / "training.xyz", frames)
    label_frames(read_frames(tmp_path / "data" / "frames" / "training.xyz")[:3], HF, tmp_path / "labels", None, 1000)
    rows = list(plan_dataset("d", dataset(training_frames=4), HF, KnownFrames(tmp_path / "data"), tmp_path / "labels"))
    assert [(row.labels, row.frames, row.stored) for row in rows] == [("training", 4, 3), ("test", 10, None)]
    full = next(plan_dataset("d", dataset(training_frames=4), HF, KnownFrames(tmp_path / "data"), tmp_path / "empty"))
    assert rows[0].cpu_hours == pytest.approx(full.cpu_hours / 4)


IBUPROFEN = {"molecule": {"smiles": "CC(C)Cc1ccc(cc1)C(C)C(=O)O"}, "training_frames": 200}


@pytest.mark.parametrize(
    ("keys", "level", "complaint"),
    [
        (
            IBUPROFEN,
            {"preset": "ccsdt-cbs-tz"},
            r"more than a day .* for a frame \(\d+ h\), [\d,]+ CPU hours",
        ),
        (IBUPROFEN, {"method": "ccsd(t)", "basis": "cc-pvtz"}, r"more memory than nodes have \([\d,]+ GB\)"),
        (IBUPROFEN | {"labelling": {"runtime": 5}}, {"preset": "mp2-cbs"}, r"more than labelling.runtime for a job"),
        (IBUPROFEN, {"preset": "mp2-cbs"}, None),
        ({}, {"preset": "ccsdt-cbs"}, None),
    ],
)
def test_labels_that_take_more_than_is_sensible_are_warned_of(keys, level, complaint):
    line = warning("d", dataset(**keys), structures(dataset(**keys)), PySCF.model_validate(level))
    assert (line is None) == (complaint is None)
    if complaint:
        assert line.startswith("datasets.d: ")
        assert re.search(complaint, line)
        assert "\n" not in line


def test_a_warning_names_what_would_be_cheaper():
    given = dataset(**IBUPROFEN)
    line = warning("d", given, structures(given), PySCF.model_validate({"preset": "ccsdt-cbs"}))
    assert re.search(r"; mp2-cbs about \d+ h, dft about \d+ h$", line)


@pytest.mark.parametrize("name", ["wb97m-d3bj", "pbe0", "m06-2x", "cam-b3lyp", "lda,vwn", "b97-2", "r2scan"])
def test_functionals_that_pyscf_computes_in_full_are_admitted(name):
    check_functional(name, None)


@pytest.mark.parametrize(
    ("name", "dispersion", "message"),
    [
        ("wb97x-d3", None, "not to be had"),
        ("wb97x-2", None, "no name that PySCF knows"),
        ("b2plyp", None, "not to be had"),
        ("pbe-0", None, "not to be had"),
        ("wb97m-d3bj", "d4", "brings its own dispersion"),
    ],
)
def test_functionals_that_it_does_not_compute_in_full_are_refused(name, dispersion, message):
    with pytest.raises(PiwslError, match=message):
        check_functional(name, dispersion)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": 0.5}, "frame 3 of .*mine.xyz: charge=0.5 is no whole number"),
        ({"multiplicity": 0}, "frame 3 of .*mine.xyz: multiplicity=0 is no number of spin states"),
    ],
)
def test_given_geometries_with_half_a_charge_are_refused_with_file_and_frame(tmp_path, info, message):
    frames = cloud(20)
    frames[3].info |= info
    ase.io.write(tmp_path / "mine.xyz", frames)
    given = dataset(molecule=None, sampling=None, geometries={"file": str(tmp_path / "mine.xyz")})
    with pytest.raises(ConfigError, match=message):
        check_computed_dataset("d", given, HF)


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        ({"smiles": "[O][O]"}, r"'\[O\]\[O\]' has 2 unpaired electrons; say 3, or another one if they pair"),
        ({"smiles": "[CH2]"}, "has 2 unpaired electrons; say 3"),
        ({"smiles": "[CH3]"}, "has 1 unpaired electrons; say 2"),
        ({"smiles": "O=O"}, "'O=O' has 2 unpaired electrons; say 3"),
        ({"smiles": "S=S"}, "'S=S' has 2 unpaired electrons; say 3"),
        ({"smiles": "O=O.O"}, "'O=O.O' has 2 unpaired electrons; say 3"),
        ({"name": "O2"}, "'O2' has 2 unpaired electrons; say 3"),
        ({"smiles": "[O][O]", "multiplicity": 2}, "16 electrons cannot have multiplicity 2"),
    ],
)
def test_a_radical_is_not_silently_taken_for_a_singlet(molecule, message):
    with pytest.raises(ConfigError, match=message):
        check_computed_dataset("d", dataset(molecule=molecule), HF)


@pytest.mark.parametrize(
    "molecule",
    [
        {"smiles": "[O][O]", "multiplicity": 3},
        {"smiles": "[O][O]", "multiplicity": 1},
        {"smiles": "O=O", "multiplicity": 3},
        {"smiles": "[CH2]", "multiplicity": 1},
        {"smiles": "O=O", "multiplicity": 1},
        {"smiles": "CCO"},
        {"smiles": "O=S=O"},
        {"smiles": "CS(=O)(=O)C"},
        {"name": "CH3", "multiplicity": 2},
    ],
)
def test_a_multiplicity_that_is_stated_is_taken_as_stated(molecule):
    check_computed_dataset("d", dataset(molecule=molecule), HF)


def test_a_multiplicity_that_the_electrons_cannot_have_is_not_advised():
    # 30 electrons, of which RDKit takes one for unpaired.
    check_computed_dataset("d", dataset(molecule={"smiles": "[CuH]"}), HF)
    with pytest.raises(ConfigError, match="29 electrons cannot have multiplicity 1; an even one is needed"):
        check_computed_dataset("d", dataset(molecule={"smiles": "[CuH+]", "charge": 1}), HF)


def test_a_molecule_with_atoms_on_one_another_is_refused_before_anything_is_computed(tmp_path):
    ase.io.write(tmp_path / "mine.xyz", Atoms("OHH", [[0, 0, 0], [0.35, 0, 0], [-0.2, 0.9, 0]]))
    started = dataset(molecule={"file": str(tmp_path / "mine.xyz")})
    with pytest.raises(ConfigError, match=r"frame 0 of .*mine.xyz: atoms 0 \(O\) and 1 \(H\) are 0.350 Å apart"):
        check_computed_dataset("d", started, HF)


def test_too_few_given_geometries_are_refused_before_anything_is_computed(tmp_path):
    ase.io.write(tmp_path / "mine.xyz", cloud(20))
    given = dataset(molecule=None, sampling=None, geometries={"file": str(tmp_path / "mine.xyz"), "blocks": 4})
    with pytest.raises(ConfigError, match=r"has 20 frames, 15 of them for training .* training_frames asks for 100"):
        check_computed_dataset("d", given, HF)
    given = given.model_copy(update={"training_frames": 8, "test_frames": 5, "pool_frames": 7})
    check_computed_dataset("d", given, HF)
    with pytest.raises(
        ConfigError, match=r"7 of them for training .*, pool_frames 8\), and training_frames asks for 8"
    ):
        check_computed_dataset("d", given.model_copy(update={"pool_frames": 8}), HF)


def in_files(folder: Path, **edits: object) -> ComputedDataset:
    frames = cloud(40)
    parts = {"mine": frames[:20], "test": frames[20:28], "pool": frames[28:], "all": frames}
    for name, some in (parts | {"others": [molecule("CO")]}).items():
        ase.io.write(folder / f"{name}.xyz", some)
    files = {"file": "mine.xyz", "test_file": "test.xyz", "pool_file": "pool.xyz"}
    said = {key: str(folder / name) for key, name in (files | edits.pop("files", {})).items() if name}
    numbers = {"training_frames": 20, "test_frames": 8, "pool_frames": 12}
    return dataset(molecule=None, sampling=None, geometries=said, **(numbers | edits))


def test_files_of_training_test_and_pool_give_all_of_their_frames(tmp_path):
    assert len(check_computed_dataset("d", in_files(tmp_path), HF)) == 28  # of which the level labels some


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        ({"test_frames": 9}, r"test\.xyz has 8 frames, 8 of them for test, and test_frames asks for 9; ask for fewer"),
        ({"pool_frames": 13}, r"pool\.xyz has 12 frames, 12 of them for pool, and pool_frames asks for 13"),
        ({"pool_frames": None}, r"geometries\.pool_file: say how many of its frames to take, pool_frames"),
        ({"files": {"test_file": "pool.xyz"}}, r"test frame \d+ of .*pool\.xyz is frame \d+ of .*pool\.xyz"),
        (
            {"files": {"test_file": None, "pool_file": "all.xyz"}, "training_frames": 9, "test_frames": 2},
            r"test frame \d+ of .*mine\.xyz is frame \d+ of .*all\.xyz",
        ),
        ({"files": {"pool_file": "others.xyz"}, "pool_frames": 1}, r"pool_file: .*others\.xyz holds C, which no"),
        ({"files": {"pool_file": None}}, r"mine\.xyz has 20 frames, 8 of them for training \(pool_frames 12\), and"),
        ({"files": {"test_file": "none.xyz"}}, r"none\.xyz"),
    ],
)
def test_files_of_training_test_and_pool_that_do_not_suffice_are_refused(tmp_path, edits, problem):
    with pytest.raises(ConfigError, match=problem):
        check_computed_dataset("d", in_files(tmp_path, **edits), HF)


def test_a_test_frame_that_stands_among_training_frames_is_refused(tmp_path):
    given = in_files(tmp_path)
    twin = ase.io.read(tmp_path / "mine.xyz", 7)
    twin.positions += 1e-10  # another program's digits
    ase.io.write(tmp_path / "test.xyz", [*ase.io.read(tmp_path / "test.xyz", ":"), twin])
    with pytest.raises(ConfigError, match=r"test frame 8 of .*test\.xyz is frame 7 of .*mine"):
        check_computed_dataset("d", given, HF)


def test_blocks_beside_a_test_file_are_refused():
    with pytest.raises(ValidationError, match=r"blocks: test frames are those of test_file"):
        Geometries(file=Path("x.xyz"), test_file=Path("t.xyz"), blocks=5)


def test_free_atoms_have_their_ground_state_and_bind_the_molecule(tmp_path):
    from ase import units

    from piwsl.reference.atoms import free_atoms

    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvtz"})
    atoms = free_atoms({"O", "H"}, level, tmp_path, 2000)
    assert {symbol: record["multiplicity"] for symbol, record in atoms.items()} == {"H": 2, "O": 3}
    (frame,), _ = label_frames([molecule("H2O")], level, tmp_path, None, 2000, progress=lambda line: None)
    binding = atoms["O"]["energy_eV"] + 2 * atoms["H"]["energy_eV"] - frame.info[ENERGY_KEY]
    # Atomisation energy without zero-point energy: 232.8 kcal/mol; CCSD(T)/cc-pVTZ lacks some 8 of them.
    assert binding / (units.kcal / units.mol) == pytest.approx(232.8, abs=12)
