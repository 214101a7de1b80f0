"""Finished energies as one file: what a store gives, and what another takes of it."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from helpers import MEMORY_MB
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import parse_level
from piwsl.errors import PiwslError
from piwsl.reference.archive import pack, unpack
from piwsl.reference.labelling import label_frames
from piwsl.reference.parts import level_folders

LEVEL = parse_level({"method": "hf", "basis": "sto-3g"}, "level")
XTB = parse_level({"engine": "tblite"}, "level")


def contents(root: Path) -> dict[str, object]:
    """All files of the levels of a store."""
    folders = [folder.folder for folder in level_folders(root)]
    return {
        str(path.relative_to(root)): json.loads(path.read_text()) for each in folders for path in each.rglob("*.json")
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame with forces by differences of one level, two with analytic forces of another."""
    root = tmp_path_factory.mktemp("labels")
    water, hydrogen = molecule("H2O"), molecule("H2")
    label_frames([hydrogen], LEVEL, root, "differences", MEMORY_MB, lambda line: None)
    label_frames([water, hydrogen], XTB, root, "analytic", MEMORY_MB, lambda line: None)
    return root


def test_a_store_filled_from_a_file_has_what_the_first_had(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    # H2 and four displacements along its bond.
    assert pack(level_folders(store), archive) == 5 + 2
    assert sum(found.new for found in unpack(archive, tmp_path / "other")) == 7
    assert contents(tmp_path / "other") == contents(store)


def test_what_was_packed_is_not_computed_again(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    pack(level_folders(store), archive)
    unpack(archive, tmp_path / "other")
    _, (record,) = label_frames(
        [molecule("H2")], LEVEL, tmp_path / "other", "differences", MEMORY_MB, lambda line: None
    )
    assert record["stored"]
    assert not list((tmp_path / "other").glob("v*-part-*"))


def test_packing_twice_gives_the_same_file_and_unpacking_twice_changes_nothing(store: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl.xz", tmp_path / "b.jsonl.xz"
    pack(level_folders(store), first)
    unpack(first, tmp_path / "other")
    pack(level_folders(tmp_path / "other"), second)
    assert first.read_bytes() == second.read_bytes()
    assert [(found.new, found.there) for found in unpack(second, tmp_path / "other")] in (
        [(0, 5), (0, 2)],
        [(0, 2), (0, 5)],
    )


def test_forces_that_a_store_has_stay_and_those_that_it_lacks_are_added(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    pack(level_folders(store), archive)
    other = tmp_path / "other"
    label_frames([molecule("H2O")], XTB, other, None, MEMORY_MB, lambda line: None)
    unpack(archive, other)
    frames, _ = label_frames([molecule("H2O")], XTB, other, "analytic", MEMORY_MB, lambda line: None)
    assert np.abs(frames[0].arrays["REF_forces"]).max() > 0
    assert contents(other) == contents(store)


def lines_of(archive: Path) -> list[dict[str, object]]:
    with lzma.open(archive, "rt") as lines:
        return [json.loads(line) for line in lines]


def written(archive: Path, lines: list[object]) -> Path:
    with lzma.open(archive, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return archive


def test_damage_is_one_line(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    pack(level_folders(store), archive)
    first, level, record, *_ = lines_of(archive)
    for lines, problem in (
        ([{"piwsl labels": 2}, level], "holds no labels of version"),
        ([first, record], "line 2 is of no level"),
        ([first, level, record | {"energy_eV": "low"}], "line 3: energy_eV is low"),
        ([first, level, {}], "line 3: numbers are no atomic numbers"),
        ([first, level, record | {"numbers": 5, "forces_eV_per_A": [[0, 0, 0]]}], "line 3: numbers are no atomic"),
        ([first, level, record | {"numbers": [1, 999]}], "line 3: numbers are no atomic"),
        ([first, level, record | {"positions_A": [["x"] * 3] * 2}], "line 3: positions_A are not three"),
        ([first, level, record | {"positions_A": [["0.00000000"] * 3]}], "line 3: positions_A are not three"),
        ([first, level, record | {"charge": None}], "line 3: charge and multiplicity"),
        ([first, level, record | {"forces_eV_per_A": 3}], "line 3: its forces are not"),
        ([], "is empty"),
        ([first, 3], "no file of labels"),
    ):
        with pytest.raises(PiwslError, match=problem):
            unpack(written(archive, [*lines]), tmp_path / "other")


def test_half_a_file_gives_its_records_and_says_that_it_was_damaged(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    pack(level_folders(store), archive)
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(PiwslError, match="was damaged"):
        unpack(archive, tmp_path / "other")
    archive.write_text("no xz")
    with pytest.raises(PiwslError, match="is no file of labels"):
        unpack(archive, tmp_path / "other")


def test_where_records_lie_follows_from_their_level_and_not_from_what_a_file_says(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    pack(level_folders(store), archive)
    first, level, record, *_ = lines_of(archive)
    unpack(written(archive, [first, level, record | {"level": "../../elsewhere"}]), tmp_path / "deep" / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"labels.jsonl.xz", "deep"}
    assert all(name.startswith("v") for name in contents(tmp_path / "deep" / "other"))


def test_two_files_joined_are_both_taken(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    one, other = level_folders(store)
    pack([one], archive)
    first = archive.read_bytes()
    pack([other], archive)
    archive.write_bytes(first + archive.read_bytes())
    assert sum(found.new for found in unpack(archive, tmp_path / "other")) == 7


def test_what_cannot_be_read_or_written_is_one_line(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "labels.jsonl.xz"
    pack(level_folders(store), archive)
    for path, root, problem in (
        (tmp_path / "none.xz", tmp_path / "other", r"none\.xz: No such file"),
        (tmp_path, tmp_path / "other", "Is a directory"),
        (archive, archive, "Not a directory|File exists"),
    ):
        with pytest.raises(PiwslError, match=problem):
            unpack(path, root)


def test_commands(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed = CliRunner().invoke(app, ["labels", "pack", "x.jsonl.xz", "--level", "gfn2-xtb", "--store", str(store)])
    assert "1 records" not in packed.stdout
    assert "records: x.jsonl.xz" in packed.stdout
    taken = CliRunner().invoke(app, ["labels", "unpack", "x.jsonl.xz"])
    assert taken.stdout == "GFN2-xTB: 2 records new, 0 there already\n"
    both = ["--level", "gfn2-xtb", "--level", "gfn1-xtb"]
    missing = CliRunner().invoke(app, ["labels", "pack", "y.jsonl.xz", *both, "--store", str(store)])
    assert missing.exit_code == 1
    assert "has no energies of gfn1-xtb" in missing.stderr
    missing = CliRunner().invoke(app, ["labels", "pack", "y.jsonl.xz", "--level", "dft", "--store", str(store)])
    assert missing.exit_code == 1
    assert not Path("y.jsonl.xz").exists()
