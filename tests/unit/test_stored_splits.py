"""The frames for training and test are stored with the hash of their file; given back they make the same parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import morse_frames, plain_experiment
from test_dropping import FAULTS, NOT_FINITE, faulty_frames
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import ConfigError, GivenDataset, parse_section
from piwsl.data import splits
from piwsl.data.assemble import import_given
from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.errors import PiwslError
from piwsl.files import file_hash
from piwsl.readers.extxyz import ExtendedXYZ
from piwsl.structures.frames import ENERGY_KEY, write_frames

SPLITS: dict[str, dict[str, Any]] = {
    "at random": {"test_frames": 5},
    "by groups": {"test_frames": 5, "split": {"by": "group", "key": "trajectory"}},
    "by size": {"test_frames": 3, "split": {"by": "size"}},
    "without copies": {"test_frames": 5, "drop": ["duplicates", "net_forces"]},
    "each other one": {"test_frames": 3, "stride": 2},
}


@pytest.fixture
def path(tmp_path) -> Path:
    """Frames of two molecules from four trajectories in turns, the last a copy of the first."""
    frames = [atoms for pair in zip(morse_frames("H2O", 12), morse_frames("H2O2", 12), strict=True) for atoms in pair]
    frames.append(frames[0].copy())
    for number, atoms in enumerate(frames):
        atoms.info["trajectory"] = "abcd"[number // 2 % 4]
    write_frames(tmp_path / "mine.xyz", frames)
    return tmp_path / "mine.xyz"


def imported(path: Path, **keys: Any) -> dict[str, bytes]:
    """Return the hashes of the parts, and leave `split.json` beside the file."""
    dataset = parse_section(GivenDataset, {"file": str(path)} | keys, "datasets.mine")
    import_given(dataset, path.with_name("made.h5"), split_path=path.with_name("split.json"))
    with Dataset(path.with_name("made.h5")) as made:
        return {
            part: b"".join(digests.tobytes() for digests in made.digests_of(made.indices(part)))
            for part in (TRAINING, TEST)
        }


@pytest.mark.parametrize("how", SPLITS)
def test_a_stored_split_given_back_makes_the_same_parts(path, how):
    before = imported(path, **SPLITS[how])
    stored = path.with_name("split.json").rename(path.with_name("stored.json"))
    assert imported(path, split={"stored": str(stored)}) == before


def test_other_software_finds_the_frames_in_the_file_of_that_hash(path, monkeypatch):
    monkeypatch.setattr(splits, "POSITIONS_AT_ONCE", 4)
    imported(path, **SPLITS["by groups"])
    found = json.loads(path.with_name("split.json").read_text())
    energies = [atoms.info[ENERGY_KEY] for atoms in ExtendedXYZ().frames(path)]
    with Dataset(path.with_name("made.h5")) as made:
        for part in (TRAINING, TEST):
            assert found[part]["sha256"] == file_hash(path)
            assert (found[part]["file"], found[part]["format"]) == (str(path), "extxyz")
            written = [structure.energy for structure in made.structures(made.indices(part))]
            assert written == [energies[position] for position in found[part]["positions"]]
    groups = {part: {"abcd"[position // 2 % 4] for position in found[part]["positions"]} for part in (TRAINING, TEST)}
    assert set(found["held_out"]) == groups[TEST]
    assert not groups[TEST] & groups[TRAINING]


def test_its_lists_are_lists_as_any(path):
    before = imported(path, **SPLITS["without copies"])
    found = json.loads(path.with_name("split.json").read_text())
    lists = {part: str(path.with_name(f"{part}.csv")) for part in (TRAINING, TEST)}
    for part, name in lists.items():
        Path(name).write_text("\n".join(map(str, found[part]["positions"])))
    assert imported(path, split=lists) == before


def test_what_was_dropped_is_not_asked_for_when_the_split_is_given_back(path):
    write_frames(path, faulty_frames())
    before = imported(path, test_frames=5, drop=[*FAULTS])
    stored = path.with_name("split.json").rename(path.with_name("stored.json"))
    assert imported(path, split={"stored": str(stored)}) == before
    found = json.loads(stored.read_text())
    found[TRAINING]["positions"].append(NOT_FINITE)
    stored.write_text(json.dumps(found))
    with pytest.raises(PiwslError, match=f"frame {NOT_FINITE}: REF_forces must be"):
        imported(path, split={"stored": str(stored)})


def test_test_frames_of_a_file_of_their_own_are_named_there(path, tmp_path):
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 3, seed=1))
    imported(path, test_file=str(tmp_path / "test.xyz"))
    found = json.loads(path.with_name("split.json").read_text())
    assert found[TEST]["sha256"] == file_hash(tmp_path / "test.xyz")
    assert (found[TEST]["positions"], len(found[TRAINING]["positions"])) == ([0, 1, 2], 25)


def test_a_stored_split_of_two_files_is_refused_with_the_way_to_the_same_frames(path, tmp_path):
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 3, seed=1))
    imported(path, test_file=str(tmp_path / "test.xyz"))
    stored = path.with_name("split.json").rename(path.with_name("stored.json"))
    with pytest.raises(
        PiwslError, match=r"say file, test_file and drop as in that import, in place of split$"
    ) as raised:
        imported(path, split={"stored": str(stored)})
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_the_one_that_was_split_is_refused(path):
    imported(path, test_frames=5)
    stored = path.with_name("split.json").rename(path.with_name("stored.json"))
    hashes = [file_hash(path)]
    frames = [*ExtendedXYZ().frames(path)]
    frames[3].info[ENERGY_KEY] += 1e-6
    write_frames(path, frames)
    hashes.append(file_hash(path))
    with pytest.raises(PiwslError) as raised:
        imported(path, split={"stored": str(stored)})
    said = f"SHA-256 {hashes[1][:8]}..., not {hashes[0][:8]}..."
    assert str(raised.value) == f"{stored}: is of another {path} than {path} ({said}); give that file"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found[TEST].update(positions=[25]), r"25 is no position of a frame; there are 25, from 0"),
        (lambda found: found[TEST].update(positions=[-1]), r"-1 is no position of a frame"),
        (lambda found: found[TEST].update(positions=[3, 3]), r"3 stands there 2 times"),
        (lambda found: found[TEST].update(positions=[]), r"holds no position of a frame"),
        (lambda found: found[TEST].update(positions=found[TRAINING]["positions"][:1]), r"no frame is in both"),
        (lambda found: found[TRAINING].update(format="ase"), r"counts frames as 'ase' does; say format: ase"),
        (lambda found: found.pop(TEST), r"test"),
    ],
)
def test_a_stored_split_that_cannot_be_is_refused_by_check(path, tmp_path, monkeypatch, change, said):
    monkeypatch.chdir(tmp_path)
    imported(path, test_frames=5)
    found = json.loads(path.with_name("split.json").read_text())
    change(found)
    path.with_name("stored.json").write_text(json.dumps(found))
    config = plain_experiment() | {"levels": {}, "sizes": [4]}
    config["models"]["painn"]["atomic_references"] = "fitted"
    config["datasets"] = {"mine": {"file": "mine.xyz", "split": {"stored": "stored.json"}}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert "stored.json" in result.output
    assert said in result.output


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"test_frames": 1, "split": {"stored": "a.json"}}, "give one of 'test_file', 'test_frames'"),
        ({"split": {"stored": "a.json", "test": "a.csv"}}, "stored: says what is trained on and tested"),
        ({"split": {"stored": "a.json", "by": "size"}}, "by: size: the files of positions say what is tested"),
        ({"split": {"stored": "a.json"}, "stride": 2}, r"positions of 'split\.stored' are of all frames"),
    ],
)
def test_a_stored_split_says_all(keys, said):
    with pytest.raises(ConfigError, match=said):
        parse_section(GivenDataset, {"file": "a.xyz"} | keys, "datasets.mine")
