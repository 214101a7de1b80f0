"""A dataset file says where its frames come from; what is made of them does not depend on that."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from helpers import morse_frames
from typer.testing import CliRunner

from piwsl.acquisition.rounds import take_bought
from piwsl.cli import app
from piwsl.config import GivenDataset, parse_section
from piwsl.data.assemble import assemble, import_given
from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.data.test_sets import write_test_set
from piwsl.files import write_json
from piwsl.records import Provenance, Round
from piwsl.structures.frames import write_frames


def imported(folder: Path, part: str | None = None, **keys: Any) -> Path:
    dataset = parse_section(GivenDataset, keys, "datasets.mine")
    made = folder / f"{part or 'dataset'}.h5"
    import_given(dataset, made, part)
    return made


def origin(path: Path) -> Provenance | None:
    with Dataset(path) as dataset:
        return dataset.provenance()


def test_an_import_names_files_hashes_level_names_and_units(tmp_path):
    frames = morse_frames("H2O", 6)
    for atoms in frames:
        atoms.info["hf_energy"] = -76.0
    write_frames(tmp_path / "mine.xyz", frames)
    write_frames(tmp_path / "pool.xyz", morse_frames("H2O", 2, seed=1))
    keys = {
        "file": str(tmp_path / "mine.xyz"), "pool_file": str(tmp_path / "pool.xyz"), "test_frames": 2,
        "level": "DLPNO-CCSD(T)/cc-pVTZ", "energy_unit": "kJ/mol", "given_levels": {"hf": {"energy_unit": "Hartree"}},
    }  # fmt: skip
    found = origin(imported(tmp_path, **keys))
    assert found.level == "DLPNO-CCSD(T)/cc-pVTZ"
    assert found.versions == {"piwsl": version("piwsl")}
    whole, pool = found.files
    assert (whole.file, whole.format, whole.parts) == (str(tmp_path / "mine.xyz"), "extxyz", ["training", "test"])
    assert whole.sha256 == sha256((tmp_path / "mine.xyz").read_bytes()).hexdigest()
    assert whole.labels["reference"]["energy_key"] == "REF_energy"
    assert {level: names["energy_unit"] for level, names in whole.labels.items()} == {
        "reference": "kJ/mol",
        "hf": "Hartree",
    }
    assert pool.parts == ["pool"]
    assert pool.sha256 == sha256((tmp_path / "pool.xyz").read_bytes()).hexdigest()
    (alone,) = origin(imported(tmp_path, TRAINING, **keys)).files
    assert (alone.parts, [*alone.labels]) == (["training"], ["reference"])  # it has no labels of the other


def test_a_published_set_is_named(tmp_path):
    positions = np.stack([atoms.positions for atoms in morse_frames("CH3CH2OH", 4)])
    forces, energies = np.zeros_like(positions), -97000.0 - np.arange(4)
    numbers = morse_frames("CH3CH2OH", 1)[0].numbers
    np.savez(tmp_path / "a.npz", nuclear_charges=numbers, coords=positions, energies=energies, forces=forces)
    found = origin(imported(tmp_path, catalogue="rmd17/ethanol", path=str(tmp_path / "a.npz"), test_frames=1))
    assert (found.catalogue, found.level) == ("rmd17/ethanol", "PBE/def2-SVP")
    assert found.files[0].format == "rmd17"
    assert found.files[0].labels["reference"]["forces_unit"] == "kcal/mol/Å"


def test_the_same_frames_are_one_file_and_under_another_name_the_same_frames(tmp_path):
    for name in ("mine", "other"):
        write_frames(tmp_path / f"{name}.xyz", morse_frames("H2O", 6))
    first, again, other = (
        imported(tmp_path / str(number), file=str(tmp_path / f"{name}.xyz"), test_frames=2)
        for number, name in enumerate(("mine", "mine", "other"))
    )
    assert first.read_bytes() == again.read_bytes()
    assert origin(first) != origin(other)
    with h5py.File(first) as one, h5py.File(other) as two:
        assert one.attrs["digest"] == two.attrs["digest"]
        np.testing.assert_array_equal(one["digests"], two["digests"])


def test_a_file_of_before_which_says_nothing_is_read(tmp_path):
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6))
    path = imported(tmp_path, file=str(tmp_path / "mine.xyz"), test_frames=2)
    with h5py.File(path, "r+") as file:
        del file.attrs["provenance"]
    with Dataset(path) as dataset:
        assert dataset.provenance() is None
        dataset.verify()


def test_frames_that_are_labelled_here_have_their_level(tmp_path):
    for part in (TRAINING, TEST):
        write_frames(tmp_path / f"{part}.xyz", morse_frames("H2O", 3, seed=len(part)))
    assemble([tmp_path / "training.xyz"], [tmp_path / "test.xyz"], [], tmp_path / "d.h5", level="CCSD(T)/CBS")
    assert origin(tmp_path / "d.h5") == Provenance(level="CCSD(T)/CBS", versions={"piwsl": version("piwsl")})


def test_what_is_taken_from_a_dataset_file_comes_from_where_that_does(tmp_path):
    for name, seed in (("mine", 0), ("hot", 1)):
        write_frames(tmp_path / f"{name}.xyz", morse_frames("H2O", 6, seed=seed))
    training = imported(tmp_path, file=str(tmp_path / "mine.xyz"), test_frames=1)
    bought = Round(dataset="mine", round=0, by="random", candidates=5, bought=[1, 0])
    write_json(tmp_path / "0.json", bought.model_dump())
    take_bought(training, [tmp_path / "0.json"], tmp_path / "n2.h5")
    assert origin(tmp_path / "n2.h5") == origin(training)
    hot = imported(tmp_path / "hot", file=str(tmp_path / "hot.xyz"), test_frames=2)
    write_test_set(hot, training, tmp_path / "tested.h5", along=None, units={})
    assert origin(tmp_path / "tested.h5") == origin(hot)


def test_info_says_what_a_dataset_file_holds(tmp_path):
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 6, forces=True))
    path = imported(tmp_path, file=str(tmp_path / "mine.xyz"), test_frames=2, level="MP2")
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 0
    said = yaml.safe_load(result.output)
    assert said["frames"] == {"training": 4, "test": 2, "pool": 0}
    assert said["elements"] == ["H", "O"]
    assert said["labels"] == {"reference": {"energy": 6, "forces": 6}}
    assert said["provenance"]["level"] == "MP2"
    assert said["provenance"]["files"][0]["file"] == str(tmp_path / "mine.xyz")
