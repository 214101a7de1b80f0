"""Readers of published formats, on files that are written here as those are: units, absence, and what is damaged."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.units import Bohr, Hartree, kcal, mol
from helpers import ROOT, morse_frames
from published import COUPLED_CLUSTER_AN_ATOM, TRIPLE_ZETA, write_ani, write_archive, xsf

from piwsl.config import GivenDataset
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TRAINING, Dataset
from piwsl.data.given import read_files
from piwsl.data.reading import count_of, frames_of, read_frames
from piwsl.errors import PiwslError
from piwsl.readers import READERS, format_of
from piwsl.records import StoredSplit, read_record
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, WEAK_FORCES_KEY, charge_of
from piwsl.structures.labels import labels_of

KCAL = kcal / mol
WATER = np.array([8, 1, 1], np.uint8)
RMD17 = ROOT.parent / "shared" / "data" / "rmd17"


def geometries(frames: int) -> np.ndarray:
    """Return (frames, 3, 3) positions of water, Å."""
    return np.array([atoms.positions for atoms in morse_frames("H2O", frames)])


def labels(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return energies and forces of water, eV and eV/Å."""
    labelled = morse_frames("H2O", frames, forces=True)
    energies = np.array([atoms.info[ENERGY_KEY] for atoms in labelled])
    return energies, np.array([atoms.arrays[FORCES_KEY] for atoms in labelled])


def assert_is_water(frames, count: int, every: int = 1) -> None:
    """Check geometries and labels of frames in our units."""
    positions, (energies, forces) = geometries(count)[::every], labels(count)
    assert len(frames) == len(positions)
    for atoms, where, energy, force in zip(frames, positions, energies[::every], forces[::every], strict=True):
        assert atoms.get_chemical_formula() == "H2O"
        np.testing.assert_allclose(atoms.positions, where, atol=1e-12)
        assert atoms.info[ENERGY_KEY] == pytest.approx(energy, abs=1e-10)
        np.testing.assert_allclose(atoms.arrays[FORCES_KEY], force, atol=1e-10)


def refusal(path: Path, form: str) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(PiwslError) as raised:
        read_frames(path, form)
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(f"{path}: ")
    return said


# NPZ.


def rmd17(count: int) -> dict[str, np.ndarray]:
    energies, forces = labels(count)
    return {
        "nuclear_charges": WATER,
        "coords": geometries(count),
        "energies": energies / KCAL,
        "forces": forces / KCAL,
        "old_indices": np.arange(count),
        "old_energies": np.full(count, 1e9),
        "old_forces": np.full((count, 3, 3), 1e9),
    }


def sgdml(count: int, **more) -> dict[str, np.ndarray]:
    energies, forces = labels(count)
    kept = {"type": "d", "name": "water", "theory": "CCSD(T)", "md5": "0" * 32, "z": WATER, "R": geometries(count)}
    return kept | {"E": energies[:, None] / KCAL, "F": forces / KCAL} | more


PUBLISHED = {"rmd17": rmd17, "sgdml": sgdml}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("form", PUBLISHED)
def test_npz_in_kcal_is_read_in_ev(tmp_path, form, save):
    save(tmp_path / "water.npz", **PUBLISHED[form](7))
    assert_is_water(read_frames(tmp_path / "water.npz", form), 7)
    assert count_of(tmp_path / "water.npz", form) == 7
    (file,) = read_files(GivenDataset(file=tmp_path / "water.npz", format=form, test_frames=1), most=3)
    assert_is_water(file.frames, 7, every=3)


@pytest.mark.parametrize("form", PUBLISHED)
@pytest.mark.parametrize("layout", [">f8", "<f4", "F"])
def test_other_byte_orders_precisions_and_orders_of_axes(tmp_path, form, layout):
    def laid_out(values):
        values = np.asarray(values)
        if layout == "F":
            return np.asfortranarray(values)
        return values.astype(layout) if values.dtype.kind == "f" else values

    np.savez(tmp_path / "water.npz", **{key: laid_out(values) for key, values in PUBLISHED[form](5).items()})
    found = read_frames(tmp_path / "water.npz", form)
    if layout == "<f4":  # what single precision keeps of kcal/mol
        assert found[3].info[ENERGY_KEY] == pytest.approx(labels(5)[0][3], rel=1e-6)
    else:
        assert_is_water(found, 5)


def test_a_block_is_all_that_is_held_of_an_array(tmp_path):
    frames, atoms = 20_000, 40
    rng = np.random.default_rng(0)
    numbers, big = np.full(atoms, 6), rng.normal(size=(frames, atoms, 3))
    np.savez(tmp_path / "big.npz", nuclear_charges=numbers, coords=big, energies=big[:, 0, 0], forces=big)
    tracemalloc.start()
    sums = sum(atoms.info["energies"] for atoms in frames_of(tmp_path / "big.npz", "rmd17", every=7))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sums == pytest.approx(big[::7, 0, 0].sum())
    assert big.nbytes > 19e6
    assert peak < 8e6


def test_units_that_a_file_states_are_taken_at_their_word(tmp_path):
    energies, forces = labels(4)
    stated = {"R": geometries(4) / Bohr, "E": energies / Hartree, "F": forces * Bohr / Hartree}
    np.savez(tmp_path / "water.npz", **sgdml(4, e_unit="Hartree", r_unit="bohr", **stated))
    assert_is_water(read_frames(tmp_path / "water.npz", "sgdml"), 4)
    np.savez(tmp_path / "water.npz", **sgdml(4, e_unit="furlong"))
    assert "states the unit 'furlong', which is not known" in refusal(tmp_path / "water.npz", "sgdml")


def test_units_of_a_file_that_states_none_are_what_the_config_says(tmp_path):
    energies, forces = labels(4)
    np.savez(tmp_path / "water.npz", **rmd17(4) | {"energies": energies / Hartree, "forces": forces / Hartree})
    section = GivenDataset(
        file=tmp_path / "water.npz", format="rmd17", test_frames=1, energy_unit="Ha", forces_unit="Ha/A"
    )
    assert_is_water(read_files(section)[0].frames, 4)


def test_what_is_published_without_forces_or_with_a_lattice(tmp_path):
    content = sgdml(3, lattice=np.array([[9.0, 1.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 7.0]]))
    del content["F"]
    np.savez(tmp_path / "water.npz", **content)
    frames = read_frames(tmp_path / "water.npz", "sgdml")
    assert all(FORCES_KEY not in atoms.arrays and atoms.pbc.all() for atoms in frames)
    np.testing.assert_allclose(frames[0].cell[1], [1.0, 8.0, 0.0])  # sGDML has vectors as columns


def test_a_model_of_sgdml_is_no_dataset(tmp_path):
    np.savez(tmp_path / "model.npz", type="m", z=WATER, R_desc=np.zeros((3, 4)))
    assert "is of type 'm' to sGDML, no dataset" in refusal(tmp_path / "model.npz", "sgdml")


def test_molecules_padded_with_zeros_as_qm9_is(tmp_path):
    """Two molecules of unlike size, and a single atom, with energies in eV under several names."""
    numbers = np.array([[8, 1, 1], [1, 1, 0], [2, 0, 0]])
    positions = np.arange(27.0).reshape(3, 3, 3)
    kept = {"num_atoms": [3, 2, 1], "charges": numbers, "positions": positions, "U0": [-76.0, -1.0, -2.9]}
    np.savez(tmp_path / "qm9.npz", **kept, index=[1, 2, 3], tags=np.array(["a", "b", "c"]))
    (file,) = read_files(GivenDataset(file=tmp_path / "qm9.npz", format="npz", test_frames=1, energy_key="U0"))
    assert [atoms.get_chemical_formula() for atoms in file.frames] == ["H2O", "H2", "He"]
    assert [atoms.info[ENERGY_KEY] for atoms in file.frames] == [-76.0, -1.0, -2.9]
    np.testing.assert_array_equal(file.frames[1].positions, positions[1, :2])


@pytest.mark.parametrize("kind", ["U", "S", "column"])
def test_groups_of_an_npz_may_be_texts(tmp_path, kind):
    energies, _ = labels(6)
    names = np.array(["hot", "cold", "größer"] * 2)
    said = {"U": names, "S": np.char.encode(names, "utf-8"), "column": names[:, None]}[kind]
    np.savez(tmp_path / "mine.npz", z=WATER, R=geometries(6), E=energies, trajectory=said, theory="PBE")
    split = {"by": "group", "key": "trajectory"}
    dataset = GivenDataset(file=tmp_path / "mine.npz", format="npz", test_frames=2, split=split)
    trained, tested = groups_of_import(dataset, tmp_path)
    assert {*trained, *tested} == {*names.tolist()}
    assert not {*trained} & {*tested}
    second = [*frames_of(tmp_path / "mine.npz", "npz", 2)][1]
    assert second.info["trajectory"] == "größer"
    assert "theory" not in second.info  # says nothing of a frame


def test_the_total_charge_as_physnet_has_it(tmp_path):
    energies, forces = labels(2)
    numbers = np.stack([WATER, WATER])
    kept = {"N": [3, 3], "Z": numbers, "R": geometries(2), "Q": [0.0, -1.0], "E": energies, "F": forces}
    np.savez(tmp_path / "sn2.npz", **kept, D=np.zeros((2, 3)))
    frames = read_frames(tmp_path / "sn2.npz", "npz")
    assert_is_water(frames, 2)
    assert [charge_of(atoms) for atoms in frames] == [0, -1]


def test_stress_and_cell_of_three_atoms(tmp_path):
    """Where a matrix is as large as a column."""
    stress = np.array([np.diag([1.0, 2.0, 3.0])] * 3)
    cells = np.array([np.diag([5.0, 6.0, 7.0 + number]) for number in range(3)])
    np.savez(tmp_path / "ice.npz", z=WATER, R=geometries(3), E=labels(3)[0], stress=stress, cell=cells)
    (file,) = read_files(GivenDataset(file=tmp_path / "ice.npz", format="npz", test_frames=1))
    assert [atoms.cell[2, 2] for atoms in file.frames] == [7.0, 8.0, 9.0]
    np.testing.assert_array_equal(file.frames[0].info["REF_stress"], stress[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"coords": np.zeros((2, 3, 3)), "energies": np.zeros(2)}, "has no nuclear_charges"),
        ({"frames": np.zeros(2)}, "has no nuclear_charges (nuclear_charges); it holds frames"),
        (rmd17(3) | {"coords": np.array([{}, {}, {}])}, "coords holds pickles, which may run code when read"),
        (rmd17(3) | {"nuclear_charges": np.array([{}])}, "nuclear_charges holds pickles"),
        (rmd17(3) | {"coords": np.zeros((3, 2, 3))}, "do not fit positions (2, 3)"),
        (rmd17(3) | {"energies": np.zeros(2)}, "cannot be read as 'rmd17'"),
    ],
    ids=["lacks an array", "another file", "pickles", "pickled numbers", "other atoms", "other frames"],
)
def test_arrays_that_are_not_as_published_are_refused_in_one_line(tmp_path, content, said):
    np.savez(tmp_path / "water.npz", **content)
    assert said in refusal(tmp_path / "water.npz", "rmd17")


@pytest.mark.parametrize("form", [*PUBLISHED, "npz", "ani1x", "ani1ccx", "spice", "aenet", "n2p2"])
def test_a_folder_an_empty_file_and_none_are_refused_in_one_line(tmp_path, form):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    assert "is no file; frames are read from files" in refusal(tmp_path / "folder", form)
    refusal(tmp_path / "empty", form)
    assert refusal(tmp_path / "none", form).endswith(": No such file or directory")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_that_is_cut_or_damaged_is_never_read_in_part(tmp_path, save):
    path = tmp_path / "water.npz"
    save(path, **rmd17(50))
    whole = path.read_bytes()
    for kept in np.linspace(1, len(whole) - 1, 12).astype(int):
        path.write_bytes(whole[:kept])
        refusal(path, "rmd17")
    middle = whole.index(b"energies.npy") + 400
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    assert "is it whole?" in refusal(path, "rmd17")


def test_what_several_readers_take_asks_for_the_format():
    for name, said in (("a.npz", "npz and rmd17 and sgdml"), ("a.h5", "ani1ccx and ani1x and spice")):
        with pytest.raises(PiwslError, match=f"{name}: {said} read such files; say which in format"):
            format_of(Path(name))
    assert format_of(Path("a.xsf")) == "aenet"


@pytest.mark.skipif(not RMD17.is_dir(), reason="rMD17 is not there")
@pytest.mark.parametrize(("name", "formula"), [("ethanol", "C2H6O"), ("aspirin", "C9H8O4")])
def test_rmd17_itself(name, formula):
    (file,) = read_files(GivenDataset(file=RMD17 / f"rmd17_{name}_train_01.npz", format="rmd17", test_frames=1))
    assert len(file.frames) == file.with_label(FORCES_KEY) == 1000
    assert {atoms.get_chemical_formula() for atoms in file.frames} == {formula}
    forces = np.array([atoms.arrays[FORCES_KEY] for atoms in file.frames])
    assert np.abs(forces.sum(axis=1)).max() < 1e-2
    # The total energies of the atoms, Hartree-Fock, within a percent.
    atoms = {"C2H6O": 2 * -37.689 + 6 * -0.5 - 74.809, "C9H8O4": 9 * -37.689 + 8 * -0.5 + 4 * -74.809}[formula]
    assert file.frames[0].info[ENERGY_KEY] == pytest.approx(atoms * Hartree, rel=1e-2)


# HDF5.


def ani(path: Path, groups: dict[str, int], lacking: tuple[int, ...] = ()) -> None:
    """Write water as ANI-1x is published, so many conformations under several names."""
    frames = iter(morse_frames("H2O", sum(groups.values()), forces=True))
    write_ani(path, {name: [*islice(frames, count)] for name, count in groups.items()}, lacking)


def test_each_level_of_ani_has_labels_of_its_own(tmp_path):
    ani(tmp_path / "ani1x-release.h5", {"H2O": 6})
    frames = [*frames_of(tmp_path / "ani1x-release.h5", "ani1x")]
    energies, forces = labels(6)
    for number, atoms in enumerate(frames):
        double, triple, coupled = (labels_of(atoms, level) for level in ("wb97x_dz", "wb97x_tz", "ccsd(t)_cbs"))
        assert double.energy == pytest.approx(energies[number])
        np.testing.assert_allclose(double.forces, forces[number], atol=1e-6)
        assert triple.energy == pytest.approx(energies[number] + TRIPLE_ZETA * Hartree)
        assert (triple.forces is None) == (number % 2 == 1)
        assert (coupled.energy is None) == (number % 3 != 0)
        assert coupled.forces is None
        assert not any("corr" in name for name in atoms.info)
    assert labels_of(frames[3], "ccsd(t)_cbs").energy == pytest.approx(
        energies[3] + 3 * COUPLED_CLUSTER_AN_ATOM * Hartree
    )


def test_ani1x_and_ani1ccx_are_views_of_one_file(tmp_path):
    path = tmp_path / "ani1x-release.h5"
    ani(path, {"H2O": 6, "H2O-odd name": 4, "none": 0, "C/C=C": 5}, lacking=(1,))
    assert count_of(path, "ani1x") == 15 - 3
    assert count_of(path, "ani1ccx") == 2 + 2 + 2
    (first,) = read_files(GivenDataset(file=path, format="ani1x", test_frames=1))
    assert first.with_label(FORCES_KEY) == len(first.frames) == 12
    (second,) = read_files(GivenDataset(file=path, format="ani1ccx", test_frames=1))
    assert len(second.frames) == second.with_label(WEAK_FORCES_KEY) == 6
    assert second.with_label(FORCES_KEY) == 0
    triple = GivenDataset(file=path, format="ani1ccx", test_frames=1, weak_forces_key="wb97x_tz_forces")
    assert 0 < read_files(triple)[0].with_label(WEAK_FORCES_KEY) < 6


def test_what_ani1ccx_takes_for_cheap_forces_may_be_the_labels(tmp_path):
    """The first of two steps: the conformations that have coupled cluster, with labels of ωB97X."""
    path = tmp_path / "ani1x-release.h5"
    ani(path, {"H2O": 6, "other": 4})
    keys = {"file": path, "format": "ani1ccx", "test_frames": 1}
    (dear,) = read_files(GivenDataset(**keys))
    (cheap,) = read_files(GivenDataset(**keys, energy_key="wb97x_dz_energy", forces_key="wb97x_dz_forces"))
    assert cheap.with_label(FORCES_KEY) == len(cheap.frames) == len(dear.frames) == 4
    assert cheap.with_label(WEAK_FORCES_KEY) == 0
    for above, below in zip(dear.frames, cheap.frames, strict=True):
        np.testing.assert_array_equal(above.positions, below.positions)
        lower = above.info[ENERGY_KEY] - below.info[ENERGY_KEY]
        assert lower == pytest.approx(3 * COUPLED_CLUSTER_AN_ATOM * Hartree)
        np.testing.assert_array_equal(below.arrays[FORCES_KEY], above.arrays[WEAK_FORCES_KEY])


@pytest.mark.parametrize("every", [2, 3, 5, 100])
@pytest.mark.parametrize("form", ["ani1x", "ani1ccx"])
def test_every_goes_on_from_one_molecule_to_the_next(tmp_path, form, every):
    ani(tmp_path / "some.h5", {"a": 7, "b": 2, "c": 1, "d": 700})
    whole = [atoms.positions for atoms in frames_of(tmp_path / "some.h5", form)]
    some = [atoms.positions for atoms in frames_of(tmp_path / "some.h5", form, every)]
    np.testing.assert_array_equal(some, whole[::every])


def test_links_of_hdf5_lead_nowhere(tmp_path):
    """Neither in a circle nor into another file."""
    ani(tmp_path / "other.h5", {"H2O": 3})
    ani(tmp_path / "mine.h5", {"a/b/H2O": 4})
    with h5py.File(tmp_path / "mine.h5", "a") as file:
        file["a/b/back"] = file["/"]
        file["a/again"] = file["a/b"]
        file["away"] = h5py.ExternalLink("other.h5", "/H2O")
        file["soft"] = h5py.SoftLink("/a/b/H2O")
    assert count_of(tmp_path / "mine.h5", "ani1x") == 4


def groups_of_import(dataset: GivenDataset, folder: Path) -> tuple[list[str | None], list[str | int]]:
    """Import a dataset; return what its training frames belong to, and the groups that are held out."""
    import_given(dataset, folder / "dataset.h5", split_path=folder / "split.json")
    with Dataset(folder / "dataset.h5") as imported:
        return imported.groups_of(imported.indices(TRAINING)), read_record(StoredSplit, folder / "split.json").held_out


@pytest.mark.parametrize(("form", "of_each"), [("ani1x", 6), ("ani1ccx", 2)])
def test_molecules_of_ani_are_held_out_by_their_groups(tmp_path, form, of_each):
    ani(tmp_path / "mine.h5", {"H2O": 6, "isomers/b c": 6, "isomers/d": 6})
    split = {"by": "group", "key": "molecule"}
    dataset = GivenDataset(file=tmp_path / "mine.h5", format=form, test_frames=2, split=split)
    trained, tested = groups_of_import(dataset, tmp_path)
    assert len(tested) == 1
    assert {*trained, *tested} == {"H2O", "isomers/b c", "isomers/d"}
    assert len(trained) == 2 * of_each


@pytest.mark.parametrize("key", ["molecule", "subset"])
def test_molecules_and_subsets_of_spice_are_held_out(tmp_path, key):
    subsets = {"103147721": "PubChem", "103147722": "PubChem", "ala ala": "Dipeptides", "C/C=C/C": "Monomers"}
    spice(tmp_path / "mine.hdf5", dict.fromkeys(subsets, "[H:2][O:1][H:3]"))
    with h5py.File(tmp_path / "mine.hdf5", "a") as file:
        for name, subset in subsets.items():
            file[name]["subset"][...] = [subset]
    dataset = GivenDataset(
        file=tmp_path / "mine.hdf5", format="spice", test_frames=3, split={"by": "group", "key": key}
    )
    trained, tested = groups_of_import(dataset, tmp_path)
    assert {*trained, *tested} == ({*subsets} if key == "molecule" else {*subsets.values()})
    assert not {*trained} & {*tested}


def spice(path: Path, molecules: dict[str, str], count: int = 3) -> None:
    """Write water as SPICE is published, under several names and SMILES."""
    energies, forces = labels(count)
    with h5py.File(path, "w") as file:
        for name, smiles in molecules.items():
            group = file.create_group(name)
            group["atomic_numbers"] = WATER.astype(np.int16)
            group["conformations"] = geometries(count) / Bohr
            group["dft_total_energy"] = energies / Hartree
            group["dft_total_gradient"] = -forces * Bohr / Hartree
            group["formation_energy"] = energies / Hartree + 76.0
            group.create_dataset("smiles", data=[smiles], dtype=h5py.string_dtype())
            group.create_dataset("subset", data=["SPICE water"], dtype=h5py.string_dtype())


@pytest.mark.parametrize("subset", [3, np.array([], dtype="S1"), None], ids=["a number", "nothing", "a group"])
def test_a_subset_that_is_no_text_is_no_subset(tmp_path, subset):
    spice(tmp_path / "mine.hdf5", {"water": "[O:1]([H:2])[H:3]"})
    with h5py.File(tmp_path / "mine.hdf5", "r+") as file:
        del file["water/subset"]
        if subset is None:
            file["water"].create_group("subset")
        else:
            file["water/subset"] = subset
    frames = read_frames(tmp_path / "mine.hdf5", "spice")
    assert_is_water(frames, 3)
    assert "subset" not in frames[0].info


def test_spice_is_in_atomic_units_and_has_gradients(tmp_path):
    spice(tmp_path / "SPICE-2.0.1.hdf5", {"103147721": "[O:1]([H:2])[H:3]", "C/C=C/C": "[H:2][O:1][H:3]"})
    frames = read_frames(tmp_path / "SPICE-2.0.1.hdf5", "spice")
    assert_is_water(frames[:3], 3)
    assert_is_water(frames[3:], 3)
    section = GivenDataset(
        file=tmp_path / "SPICE-2.0.1.hdf5", format="spice", test_frames=1, energy_key="formation_energy"
    )
    assert read_files(section)[0].frames[0].info[ENERGY_KEY] == pytest.approx(labels(3)[0][0] + 76.0 * Hartree)


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("[H:2][O:1][H:3]", 0),
        ("[N+:1]([H:2])([H:3])([H:4])[H:5]", 1),
        ("[Ca+2:1].[Cl-:2].[Cl-:3]", 0),
        ("[O--:1].[Na+:2]", -1),
        ("C[N+](C)(C)CC([O-])=O", 0),
        ("[C@@H](F)(Cl)Br", 0),
        ("[Mg+2]", 2),
    ],
)
def test_the_charge_of_spice_is_what_the_smiles_says(tmp_path, smiles, charge):
    spice(tmp_path / "a.hdf5", {"a": smiles}, 1)
    (atoms,) = read_frames(tmp_path / "a.hdf5", "spice")
    assert charge_of(atoms) == charge


@pytest.mark.parametrize(("form", "write"), [("ani1x", ani), ("spice", spice)])
def test_hdf5_that_is_cut_or_another_is_refused_in_one_line(tmp_path, form, write):
    path = tmp_path / "some.h5"
    write(path, {"a": 40} if form == "ani1x" else {"a": "O"})
    whole = path.read_bytes()
    for kept in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        assert "is no HDF5 file, or not whole" in refusal(path, form)
    path.write_text("3\nenergy=1\n")
    assert "is no HDF5 file" in refusal(path, form)
    with h5py.File(path, "w") as file:
        file["energies"] = np.zeros(3)
    assert refusal(path, form).endswith("holds no frame")


def test_arrays_of_hdf5_that_do_not_fit_are_refused(tmp_path):
    ani(tmp_path / "some.h5", {"a": 4})
    with h5py.File(tmp_path / "some.h5", "a") as file:
        del file["a/wb97x_dz.energy"]
        file["a/wb97x_dz.energy"] = np.zeros(3)
    assert "/a: wb97x_dz.energy is float64 (3,), not a row a frame" in refusal(tmp_path / "some.h5", "ani1x")


# input.data of n2p2.


def n2p2(count: int, lattice: float | None = None) -> str:
    """Return water as n2p2 has it, in atomic units; of a cube (Å) where there is one."""
    lines = []
    for atoms in morse_frames("H2O", count, forces=True):
        lines += ["begin", "comment   frame of a box"]
        if lattice is not None:
            lines += [f"lattice {' '.join(map(repr, row))}" for row in (lattice / Bohr * np.eye(3)).tolist()]
        rows = zip(atoms.symbols, atoms.positions / Bohr, atoms.arrays[FORCES_KEY] / (Hartree / Bohr), strict=True)
        for symbol, where, force in rows:
            numbers = [*where.tolist(), symbol, "-0.4", "0.0", *force.tolist()]
            lines.append(f"atom {' '.join(map(str, numbers))}")
        lines += [f"energy {atoms.info[ENERGY_KEY] / Hartree}", "charge  -0.0", "end"]
    return "\n".join(lines) + "\n"


def test_n2p2_in_atomic_units_is_read_in_ev(tmp_path):
    path = tmp_path / "input.data"
    path.write_text(n2p2(5))
    assert_is_water(read_frames(path), 5)
    assert count_of(path, "n2p2") == 5
    (file,) = read_files(GivenDataset(file=path, test_frames=1), most=3)
    assert_is_water(file.frames, 5, every=2)
    assert not any(atoms.pbc.any() for atoms in file.frames)
    assert {charge_of(atoms) for atoms in file.frames} == {0}


def test_n2p2_is_periodic_where_it_has_a_lattice_and_may_lack_forces(tmp_path):
    path = tmp_path / "input.data"
    text = n2p2(1, lattice=20.0).splitlines()
    path.write_text("\n".join(" ".join(line.split()[:5]) if line.startswith("atom") else line for line in text))
    (atoms,) = read_frames(path)
    assert atoms.pbc.all()
    np.testing.assert_allclose(atoms.cell, 20.0 * np.eye(3))
    assert FORCES_KEY not in atoms.arrays


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("begin\n", "atom 0 0 0 H\nbegin\n", "line 1: a structure stands between 'begin' and 'end', found 'atom 0 0"),
        ("end\n", "", "the structure that begins on line 1 has no 'end'; is the file whole?"),
        (" O ", " Xx ", "the structure that begins on line 1 is damaged (KeyError: 'Xx')"),
        ("energy", "energy nothing", "is damaged (ValueError: could not convert string to float: 'nothing')"),
        ("comment", "lattice 9 0 0", "is damaged (ValueError: it has 1 lattice vectors)"),
    ],
)
def test_damaged_n2p2_is_refused_with_its_line(tmp_path, before, after, said):
    (tmp_path / "input.data").write_text(n2p2(1).replace(before, after, 1))
    assert said in refusal(tmp_path / "input.data", "n2p2")


# XSF of aenet.

CRYSTAL = """# total energy = -19960.7 eV

CRYSTAL
PRIMVEC
    4.6 0.0 0.0
    0.0 4.6 0.0
    0.1 0.0 2.9
PRIMCOORD
3 1
Ti   0.0 0.0 0.0   0.5 -0.25 0.0
O    1.4 1.4 0.0  -0.5  0.00 0.0
O    3.2 3.2 0.0   0.0  0.25 0.0
"""
MOLECULE = "# total energy = -13.6 eV\n\nATOMS\nH 1.0 2.0 3.0 0.0 0.0 0.1\n"


def assert_is_crystal(atoms) -> None:
    assert atoms.get_chemical_formula() == "O2Ti"
    assert atoms.pbc.all()
    np.testing.assert_allclose(atoms.cell[2], [0.1, 0.0, 2.9])
    assert atoms.info[ENERGY_KEY] == -19960.7
    np.testing.assert_allclose(atoms.arrays[FORCES_KEY][0], [0.5, -0.25, 0.0], atol=1e-14)


def test_a_structure_of_aenet_is_in_ev(tmp_path):
    (tmp_path / "structure0001.xsf").write_text(CRYSTAL)
    (atoms,) = read_frames(tmp_path / "structure0001.xsf")
    assert_is_crystal(atoms)
    (tmp_path / "atom.xsf").write_text(MOLECULE)
    (atoms,) = read_frames(tmp_path / "atom.xsf")
    assert (len(atoms), atoms.pbc.any(), atoms.info[ENERGY_KEY]) == (1, False, -13.6)


def test_blank_lines_and_a_virial_before_the_cell_are_passed_over(tmp_path):
    virial = "VIRIAL\n   76.9 -63.2 0.0 -63.2 72.9 0.0 0.0 0.0 50.8\nCRYSTAL\n\n"
    text = CRYSTAL.replace("CRYSTAL\n", virial).replace("PRIMCOORD", "\nPRIMCOORD") + "\n"
    (tmp_path / "a.xsf").write_text(text)
    (atoms,) = read_frames(tmp_path / "a.xsf")
    assert_is_crystal(atoms)
    assert not any("stress" in name for name in atoms.info)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
def test_an_archive_of_structures_is_read_as_it_is(tmp_path, suffix):
    path = tmp_path / f"TiO2{suffix}"
    members = {f"data/structure{number:04}.xsf": CRYSTAL if number % 2 else MOLECULE for number in range(5)}
    write_archive(path, {"data/README": "read me", "data/._structure0000.xsf": "of macOS"} | members, link=True)
    assert count_of(path, "aenet") == 5
    frames = read_frames(path, "aenet")
    assert [len(atoms) for atoms in frames] == [1, 3, 1, 3, 1]
    assert_is_crystal(frames[1])
    assert [len(atoms) for atoms in frames_of(path, "aenet", every=2)] == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CRYSTAL[:150], "is no structure in XSF"),
        (CRYSTAL.replace("Ti ", "Xx "), "is no structure in XSF (KeyError)"),
        (CRYSTAL.replace(" eV", " furlong"), "is in 'furlong', which is no unit"),
        ("hello\n", "is no structure in XSF"),
        ("ANIMSTEPS 2\n" + CRYSTAL + CRYSTAL[CRYSTAL.index("PRIMCOORD") :], "is no structure|holds 2 structures"),
    ],
)
def test_xsf_that_is_cut_or_another_is_refused_with_its_name(tmp_path, text, said):
    write_archive(tmp_path / "some.zip", {"good.xsf": CRYSTAL, "bad.xsf": text})
    with pytest.raises(PiwslError) as raised:
        read_frames(tmp_path / "some.zip", "aenet")
    assert str(raised.value).startswith(f"{tmp_path / 'some.zip'}: bad.xsf: ")
    assert any(each in str(raised.value) for each in said.split("|"))


def test_a_structure_without_energy_is_asked_for_it(tmp_path):
    (tmp_path / "a.xsf").write_text(CRYSTAL.replace("# total", "# some"))
    section = GivenDataset(file=tmp_path / "a.xsf", test_file=tmp_path / "a.xsf")
    with pytest.raises(PiwslError, match=r"no training frame has REF_energy.* \(their info holds nothing\)"):
        import_given(section, tmp_path / "a.h5")


def test_what_a_frame_is_written_as_in_xsf_is_that_frame(tmp_path):
    (tmp_path / "a.xsf").write_text(CRYSTAL)
    (atoms,) = read_frames(tmp_path / "a.xsf")
    (tmp_path / "b.xsf").write_text(xsf(atoms))
    (again,) = read_frames(tmp_path / "b.xsf")
    assert_is_crystal(again)
    np.testing.assert_allclose(again.positions, atoms.positions)


def test_the_formats_are_entries_of_the_registry():
    assert {"rmd17", "sgdml", "npz", "ani1x", "ani1ccx", "spice", "aenet", "n2p2", "ase", "extxyz"} == set(
        READERS.own()
    )
