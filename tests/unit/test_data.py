"""The dataset file, the splits, the neighbour lists and the batches."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.neighborlist import neighbor_list
from helpers import displaced, morse_frames
from tblite.ase import TBLite

from piwsl.config import GivenDataset
from piwsl.data.assemble import assemble, import_given
from piwsl.data.batch import collate, graph, neighbour_list, sum_per_structure
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, check_labels, content_hash, write_dataset
from piwsl.data.splits import hold_out, split_frames
from piwsl.errors import PiwslError
from piwsl.files import write_json
from piwsl.records import Finding
from piwsl.structures.extxyz import count_frames
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, read_frames, without_labels, write_frames
from piwsl.structures.labels import WEAK, Labels
from piwsl.structures.structure import from_atoms


@pytest.fixture
def mixed(tmp_path):
    """A dataset file of different molecules, a crystal, and forces on some frames."""
    crystal = bulk("Ar", "fcc", a=5.3)
    crystal.info["REF_energy"] = -1.0
    training = morse_frames("H2O", 3) + morse_frames("NH3", 2, forces=True) + [crystal]
    test = morse_frames("CH3OH", 2, seed=1, forces=True)
    write_dataset(tmp_path / "dataset.h5", {TRAINING: training, TEST: test})
    return tmp_path / "dataset.h5", training, test


def test_a_dataset_file_gives_back_what_was_put_in(mixed):
    path, training, test = mixed
    with Dataset(path) as dataset:
        assert len(dataset) == 8
        assert dataset.elements() == [1, 6, 7, 8, 18]
        assert dataset.indices(TRAINING).tolist() == [0, 1, 2, 3, 4, 5]
        for index, atoms in enumerate(training + test):
            structure = dataset.structure(index)
            np.testing.assert_array_equal(structure.positions, atoms.positions)
            np.testing.assert_array_equal(structure.numbers, atoms.numbers)
            np.testing.assert_array_equal(structure.cell, atoms.cell)
            np.testing.assert_array_equal(structure.pbc, atoms.pbc)
            assert structure.energy == atoms.info["REF_energy"]
            if "REF_forces" in atoms.arrays:
                np.testing.assert_array_equal(structure.forces, atoms.arrays["REF_forces"])
            else:
                assert structure.forces is None


def test_frames_of_the_pool_have_no_labels_and_bring_no_element(tmp_path):
    pool = [without_labels(atoms) for atoms in morse_frames("CH3OH", 2)]
    pool[1].arrays["WEAK_forces"] = np.ones((6, 3))
    frames = {TRAINING: morse_frames("H2O", 3), TEST: morse_frames("NH3", 1), POOL: pool}
    write_dataset(tmp_path / "dataset.h5", frames)
    with Dataset(tmp_path / "dataset.h5") as dataset:
        assert dataset.elements() == [1, 7, 8]
        assert dataset.indices(TRAINING).tolist() == [0, 1, 2]
        found = dataset.structures(dataset.indices(POOL))
    for structure, atoms in zip(found, pool, strict=True):
        np.testing.assert_array_equal(structure.positions, atoms.positions)
        assert np.isnan(structure.energy)
        assert structure.forces is None
    assert [structure.at_level(WEAK).forces is not None for structure in found] == [False, True]


def test_a_dataset_file_of_another_format_is_refused_and_said_to_be_made_again(mixed):
    path, *_ = mixed
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 1
    with pytest.raises(PiwslError, match="is of format 1, and this version reads 5; delete it, and it is made again"):
        Dataset(path)


def test_the_hash_of_the_content_sees_every_label(mixed):
    path, *_ = mixed
    with Dataset(path) as dataset:
        structures = dataset.structures(dataset.indices(TRAINING))
    reference = content_hash(structures)
    assert content_hash(structures) == reference
    assert content_hash(structures[::-1]) != reference
    frames = morse_frames("H2O", 2)
    before = content_hash([from_atoms(atoms) for atoms in frames])
    frames[1].info["REF_energy"] += 1e-9
    assert content_hash([from_atoms(atoms) for atoms in frames]) != before


def test_sizes_of_one_seed_nest_and_seeds_differ():
    available = np.arange(100, 200)

    def frames(size, seed):
        split = split_frames(available, size, seed, 0.2)
        assert not set(split.training) & set(split.validation)
        assert len(split.training) + len(split.validation) == size
        return set(split.training) | set(split.validation)

    assert frames(20, 0) < frames(50, 0) < frames(100, 0) == set(available)
    assert frames(20, 0) != frames(20, 1)


@pytest.mark.parametrize(("size", "validation"), [(2, 1), (3, 1), (10, 2), (100, 20)])
def test_a_size_counts_its_validation_frames(size, validation):
    split = split_frames(np.arange(100), size, 0, 0.2)
    assert (len(split.training), len(split.validation)) == (size - validation, validation)


def test_more_frames_than_there_are_is_refused():
    with pytest.raises(PiwslError, match="size 11 is more than the 10"):
        split_frames(np.arange(10), 11, 0, 0.2)


def test_held_out_frames_are_a_partition():
    training, test = hold_out(30, 7, seed=4)
    assert len(test) == 7
    assert sorted([*training, *test]) == list(range(30))
    with pytest.raises(PiwslError, match="leaves none"):
        hold_out(7, 7, seed=4)


def test_given_frames_go_the_way_of_computed_ones(tmp_path):
    frames = morse_frames("H2O", 6) + morse_frames("H2O", 4, seed=1, forces=True)
    write_frames(tmp_path / "mine.xyz", frames)
    import_given(GivenDataset(file=tmp_path / "mine.xyz", test_frames=3), tmp_path / "given.h5")
    write_frames(tmp_path / "a.xyz", frames[:7])
    write_frames(tmp_path / "b.xyz", frames[7:])
    (tmp_path / "all-failed.xyz").touch()
    assemble([tmp_path / "a.xyz", tmp_path / "all-failed.xyz"], [tmp_path / "b.xyz"], [], tmp_path / "computed.h5")
    with Dataset(tmp_path / "given.h5") as given, Dataset(tmp_path / "computed.h5") as computed:
        for dataset in (given, computed):
            assert (len(dataset.indices(TRAINING)), len(dataset.indices(TEST))) == (7, 3)
        with_forces = [given.structure(index).forces is not None for index in range(10)]
        assert sum(with_forces) == 4


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda atoms: atoms.info.pop("REF_energy"), "frame 1: has no REF_energy"),
        (lambda atoms: atoms.info.update(REF_energy=np.nan), "frame 1: REF_energy is nan"),
        (lambda atoms: atoms.arrays["REF_forces"].__setitem__((0, 0), np.inf), "frame 1: REF_forces must be 3 x 3"),
    ],
)
def test_labels_that_are_missing_or_not_finite_are_named(spoil, complaint):
    frames = morse_frames("H2O", 3, forces=True)
    spoil(frames[1])
    with pytest.raises(PiwslError, match=complaint):
        check_labels(frames, "mine.xyz")


def test_files_that_are_no_xyz_are_refused(tmp_path):
    (tmp_path / "text.xyz").write_text("hello\n")
    for read in (read_frames, count_frames):
        with pytest.raises(PiwslError, match=r"text\.xyz"):
            read(tmp_path / "text.xyz")
        with pytest.raises(PiwslError, match=r"(?i)no such file"):
            read(tmp_path / "absent.xyz")
    write_frames(tmp_path / "good.xyz", morse_frames("H2O", 3))
    assert count_frames(tmp_path / "good.xyz") == 3
    text = (tmp_path / "good.xyz").read_text().splitlines(keepends=True)
    (tmp_path / "cut.xyz").write_text("".join(text[:-1]))
    with pytest.raises(PiwslError, match="frame 2, line 11: ends before"):
        count_frames(tmp_path / "cut.xyz")


STRUCTURES = {
    "molecule": morse_frames("CH3OH", 1)[0],
    "crystal": bulk("Si", "diamond", a=5.43) * (1, 2, 1),
    "small cell": bulk("Cu", "fcc", a=3.6),
    "slab": fcc111("Al", (2, 2, 2), vacuum=None, periodic=False),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_neighbour_lists_are_those_of_ase(name):
    atoms = STRUCTURES[name].copy()
    atoms.positions += 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    edge_index, edge_shift = neighbour_list(from_atoms(atoms), 4.0)
    vectors = atoms.positions[edge_index[1]] + edge_shift - atoms.positions[edge_index[0]]
    receiver, sender, expected = neighbor_list("ijD", atoms, 4.0)

    def rows(i, j, d):
        table = np.column_stack([i, j, np.round(d, 8) + 0.0])
        return table[np.lexsort(table.T)]

    np.testing.assert_allclose(rows(*edge_index, vectors), rows(receiver, sender, expected), atol=1e-8)


def test_a_batch_of_mixed_structures_keeps_each_by_itself():
    frames = morse_frames("H2O", 2) + morse_frames("NH3", 1, forces=True)
    parts = [graph(from_atoms(atoms), 5.0, torch.float64) for atoms in frames]
    batch = collate(parts)
    assert batch.structure_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert batch.n_atoms.tolist() == [3, 3, 4]
    assert batch.forces[:6].isnan().all()
    assert not batch.forces[6:].isnan().any()
    receiver, sender = batch.edge_index
    assert torch.equal(batch.structure_index[receiver], batch.structure_index[sender])
    assert sum_per_structure(torch.ones(10), batch).tolist() == [3, 3, 4]


def test_atoms_without_neighbours_are_allowed():
    batch = graph(from_atoms(Atoms("He", info={"REF_energy": 0.0})), 5.0, torch.float32)
    assert batch.edge_index.shape == (2, 0)


def test_labels_of_other_programs_are_converted_from_their_names_and_units(tmp_path):
    frames = morse_frames("H2O", 5, forces=True)
    foreign = []
    for atoms in frames:
        other = Atoms(atoms.numbers, atoms.positions, info={"E_dlpno": atoms.info[ENERGY_KEY] / units.Hartree})
        other.arrays["gradient_free_forces"] = atoms.arrays[FORCES_KEY] / (units.Hartree / units.Bohr)
        foreign.append(other)
    write_frames(tmp_path / "orca.xyz", foreign)
    names = {"energy_key": "E_dlpno", "forces_key": "gradient_free_forces"}
    scales = {"energy_unit": "Hartree", "forces_unit": "Hartree/Bohr"}
    given = GivenDataset(file=tmp_path / "orca.xyz", test_frames=1, level="DLPNO-CCSD(T)/cc-pVTZ", **names, **scales)
    import_given(given, tmp_path / "given.h5")
    with Dataset(tmp_path / "given.h5") as dataset:
        kept, _ = hold_out(5, 1, seed=0)
        for index, original in zip(dataset.indices(TRAINING), kept, strict=True):
            found = dataset.structure(int(index))
            assert found.energy == pytest.approx(frames[original].info[ENERGY_KEY], abs=1e-6)
            np.testing.assert_allclose(found.forces, frames[original].arrays[FORCES_KEY], atol=1e-6)
    with pytest.raises(PiwslError, match="has no REF_energy and no REF_forces; its info holds \\['E_dlpno'\\]"):
        import_given(GivenDataset(file=tmp_path / "orca.xyz", test_frames=1), tmp_path / "given.h5")


def test_energies_of_free_atoms_are_stored_with_the_data(tmp_path):
    write_frames(tmp_path / "a.xyz", morse_frames("H2O", 2))
    atoms = {"H": {"status": "ok", "energy_eV": -13.6}, "O": {"status": "failed", "step": "hf", "reason": "no"}}
    write_json(tmp_path / "atoms.json", atoms)
    assemble([tmp_path / "a.xyz"], [tmp_path / "a.xyz"], [tmp_path / "atoms.json"], tmp_path / "data.h5")
    with Dataset(tmp_path / "data.h5") as dataset:
        assert dataset.atomic_energies() == {1: -13.6}


def test_forces_of_gfn2_xtb_are_weak_labels_of_training_frames_alone(tmp_path):
    ammonium = displaced("NH3", 0.05, np.random.default_rng(0)) + Atoms("H", positions=[[0.0, 0.0, 1.1]])
    ammonium.info |= {ENERGY_KEY: -1.0, "charge": 1}
    frames = [*morse_frames("H2O", 4), ammonium]
    write_frames(tmp_path / "mine.xyz", frames)
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 1))
    given = GivenDataset(file=tmp_path / "mine.xyz", test_file=tmp_path / "test.xyz", weak_forces="gfn2-xtb")
    import_given(given, tmp_path / "given.h5")
    assemble([tmp_path / "mine.xyz"], [tmp_path / "test.xyz"], [], tmp_path / "computed.h5", weak_forces=True)
    for name in ("given.h5", "computed.h5"):
        with Dataset(tmp_path / name) as dataset:
            found = dataset.structures(dataset.indices(TRAINING))
            assert all(
                structure.at_level(WEAK).forces is None for structure in dataset.structures(dataset.indices(TEST))
            )
        assert all(structure.forces is None for structure in found)
        for structure, frame in zip(found, frames, strict=True):
            calculator = TBLite(method="GFN2-xTB", charge=frame.info.get("charge", 0), verbosity=0)
            ahead, behind = frame.copy(), frame.copy()
            for side, sign in ((ahead, 1), (behind, -1)):
                side.positions[1, 2] += sign * 1e-3
                side.calc = calculator
            slope = (ahead.get_potential_energy() - behind.get_potential_energy()) / 2e-3
            assert structure.at_level(WEAK).forces[1, 2] == pytest.approx(-slope, abs=2e-3)


def test_the_pool_gets_forces_of_gfn2_xtb_too_and_loses_frames_that_no_level_could_label(tmp_path, capsys):
    write_frames(tmp_path / "a.xyz", morse_frames("H2O", 2))
    pool = [without_labels(atoms) for atoms in morse_frames("H2O", 3, seed=1)]
    pool[1].positions[1] = pool[1].positions[0] + [0.0, 0.0, 0.2]
    for number, atoms in enumerate(pool):
        atoms.info["frame"] = f"pool-300K-{number}"
    write_frames(tmp_path / "pool.xyz", pool)
    parts = [tmp_path / "a.xyz"], [tmp_path / "a.xyz"], []
    assemble(*parts, tmp_path / "data.h5", weak_forces=True, pool=[tmp_path / "pool.xyz"])
    assert "pool-300K-1 of the pool is left out: " in capsys.readouterr().out
    with Dataset(tmp_path / "data.h5") as dataset:
        first, last = dataset.structures(dataset.indices(POOL))
    assert np.isnan(first.energy)
    assert first.at_level(WEAK).forces is not None
    np.testing.assert_allclose(last.positions, pool[2].positions, atol=1e-7)


def test_given_forces_of_a_cheaper_level_are_kept_in_our_unit(tmp_path):
    frames = morse_frames("H2O", 3)
    for atoms in frames:
        atoms.arrays["hf_forces"] = np.ones((3, 3))
    write_frames(tmp_path / "mine.xyz", frames)
    names = {"weak_forces_key": "hf_forces", "forces_unit": "Hartree/Bohr"}
    import_given(GivenDataset(file=tmp_path / "mine.xyz", test_frames=1, **names), tmp_path / "given.h5")
    with Dataset(tmp_path / "given.h5") as dataset:
        structure = dataset.structure(0)
    np.testing.assert_allclose(structure.at_level(WEAK).forces, units.Hartree / units.Bohr, rtol=1e-6)
    batch = collate([graph(structure, 5.0, torch.float64), graph(from_atoms(frames[0]), 5.0, torch.float64)])
    assert not batch.at_level(WEAK).forces[:3].isnan().any()
    assert batch.at_level(WEAK).forces[3:].isnan().all()
    assert content_hash([structure]) != content_hash([structure.labelled(WEAK, Labels())])


def _truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _of_another_program(path):
    with h5py.File(path, "w") as file:
        file["energies"] = np.zeros(3)


def _with_another_energy(path):
    with h5py.File(path, "r+") as file:
        file["labels/reference/energy"][2] += 1e-6


def _with_another_part(path):
    with h5py.File(path, "r+") as file:
        file["part"][0] = 1


def _with_a_flipped_bit(path):
    with Dataset(path) as dataset:
        wanted = dataset.structure(2).positions.tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(wanted) + 3] ^= 1
    path.write_bytes(content)


DAMAGE = [_truncated, _of_another_program, _with_another_energy, _with_another_part, _with_a_flipped_bit]


@pytest.mark.parametrize("damage", [*DAMAGE, lambda path: path.write_text("text"), lambda path: path.write_bytes(b"")])
def test_a_damaged_dataset_file_is_said_to_be_one_and_what_to_do(mixed, damage):
    path, *_ = mixed
    damage(path)
    complaint = r"dataset.h5: is damaged or no dataset file .*delete it"
    with pytest.raises(PiwslError, match=complaint) as raised, Dataset(path) as dataset:
        dataset.structures(dataset.indices(TRAINING))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "unable to open file"), "permission denied"),
        (OSError("Can't read data (file read failed: errno = 5, error message = 'Input/output')"), "does not answer"),
        (OSError(errno.ESTALE, "stale"), "the file server has lost it"),
    ],
)
def test_a_dataset_file_that_the_machine_refuses_is_not_said_to_be_damaged(mixed, monkeypatch, error, said):
    path, *_ = mixed

    def refuse(*rest: object, **how: object) -> None:
        raise error

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(PiwslError, match=f"dataset.h5: .*{said}") as raised:
        Dataset(path)
    assert "delete" not in str(raised.value)


def test_a_dataset_file_that_another_process_has_locked_is_read(mixed):
    path, *_ = mixed
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with Dataset(path) as dataset:
            dataset.verify()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_locks_has_dataset_files_as_any(tmp_path, monkeypatch, number):
    opened = h5py.File

    def locked(path: os.PathLike[str], mode: str, locking: bool | None = None) -> h5py.File:
        if locking is not False:
            raise OSError(number, f"Unable to synchronously open file (unable to lock file, errno = {number})")
        return opened(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", locked)
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("H2O", 3), TEST: morse_frames("H2O", 1, seed=1)})
    with Dataset(path) as dataset:
        dataset.verify()


def test_a_lock_that_the_environment_demands_is_no_damage(mixed):
    path, *_ = mixed
    script = f"from pathlib import Path; from piwsl.data.dataset import Dataset; Dataset(Path({str(path)!r}))"
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}, capture_output=True,
            text=True,
        )  # fmt: skip
    assert f"{path}: cannot be locked, as HDF5_USE_FILE_LOCKING in the environment demands; unset it" in done.stderr
    assert "delete" not in done.stderr


def test_a_dataset_file_is_read_where_this_process_has_it_open_with_a_lock(mixed):
    path, *_ = mixed
    with h5py.File(path, "r"), Dataset(path) as dataset:
        dataset.verify()


def test_of_a_large_dataset_file_frames_from_all_over_it_are_verified(tmp_path, monkeypatch):
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: morse_frames("H2O", 30), TEST: morse_frames("H2O", 5, seed=1)})
    monkeypatch.setattr("piwsl.data.dataset.FRAMES_AT_ONCE", 10)
    spans: list[tuple[int, int]] = []
    read = Dataset._read
    monkeypatch.setattr(Dataset, "_read", lambda self, *span: spans.append(span) or read(self, *span))
    with Dataset(path) as dataset:
        dataset.verify(most=7)
        assert spans == [(0, 2), (10, 12), (20, 22), (30, 32)]
        spans.clear()
        dataset.verify()
        assert spans == [(0, 10), (10, 20), (20, 30), (30, 35)]


def test_warnings_travel_with_the_data(mixed):
    path, training, test = mixed
    with Dataset(path) as dataset:
        assert dataset.findings() == []
        dataset.verify()
    write_dataset(path, {TRAINING: training, TEST: test}, findings=[Finding(said="energies in Å?")])
    with Dataset(path) as dataset:
        assert [found.said for found in dataset.findings()] == ["energies in Å?"]


def test_a_dataset_file_that_is_absent_is_named(tmp_path):
    with pytest.raises(PiwslError, match=r"absent.h5: no such file"):
        Dataset(tmp_path / "absent.h5")
