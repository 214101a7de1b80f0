"""The catalogue of published sets: what it says of each, what a config makes of it, and the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import morse_frames, plain_experiment
from typer.testing import CliRunner

from piwsl import catalogue
from piwsl.catalogue import DOWNLOADS, Entry, Source, download, entries, find, source_of
from piwsl.cli import app
from piwsl.config import ConfigError, Experiment, GivenDataset, parse_section
from piwsl.config.labels import LABELS
from piwsl.data.given import read_files
from piwsl.preflight import load_experiment, remarks
from piwsl.readers import READERS
from piwsl.report.context import Context
from piwsl.report.sections.given_levels import GivenLevels
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, write_frames


def section(**keys) -> GivenDataset:
    return parse_section(GivenDataset, keys, "config.yaml")


def refusal(**keys) -> str:
    with pytest.raises(ConfigError) as raised:
        section(**keys)
    return str(raised.value).removeprefix("config.yaml: ")


@pytest.mark.parametrize("name", entries())
def test_every_set_says_what_users_need(name):
    entry = find(name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*(/[a-z0-9.-]+)?", name)
    for text in (entry.about, entry.units, entry.citation, entry.licence, entry.splits, entry.tried, *entry.levels):
        assert isinstance(text, str)
        assert text.strip()
    assert entry.format in READERS.own()
    assert entry.homepage.startswith(("https://", "http://"))
    assert "doi:" in entry.citation
    assert entry.keys.keys() <= {*LABELS, "given_levels"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in entry.sha256.values())
    # Nobody has downloaded any: what is tried says of what it was.
    assert entry.verified == ("format" if "published frames" in entry.tried else "no")


def test_sets_share_no_file_but_where_they_are_one():
    places: dict[Path, Source] = {}
    for entry in entries().values():
        for source in entry.sources():
            assert places.setdefault(source.path, source) == source
            assert source.path.is_relative_to(DOWNLOADS)
            assert source.address.startswith(("https://", "http://"))
            assert ".." not in source.path.parts
    assert source_of(DOWNLOADS / "rmd17" / "rmd17_ethanol.npz").archive == DOWNLOADS / "rmd17" / "rmd17.tar.bz2"
    assert source_of(Path("mine.npz")) is None


def test_a_set_is_a_section():
    given = section(catalogue="rmd17/ethanol", test_frames=1000)
    assert given.file == DOWNLOADS / "rmd17" / "rmd17_ethanol.npz"
    assert (given.format, given.level) == ("rmd17", "PBE/def2-SVP")
    assert given.labels_of(given.file).energy_unit == "kcal/mol"
    several = section(catalogue="3bpa")
    assert several.test_file == DOWNLOADS / "3bpa" / "test_300K.xyz"
    assert [*several.tests] == ["600K", "1200K", "dihedral-120", "dihedral-150", "dihedral-180"]
    assert several.tested_on("600K").labels_of(several.file).energy_key == "energy"


@pytest.mark.parametrize("name", ["rmd17/ethanol", "3bpa", "ani1ccx"])
@pytest.mark.parametrize("path", [{}, {"path": "somewhere/else"}])
def test_a_job_is_given_the_section_that_the_config_said(name, path):
    given = section(catalogue=name, test_frames=4, **path)
    again = GivenDataset.model_validate(given.beyond_defaults())
    assert again == given
    for test in given.tests:
        tested = given.tested_on(test)
        assert GivenDataset.model_validate(tested.beyond_defaults()) == tested


def test_what_stands_beside_wins():
    given = section(catalogue="3bpa", test_frames=50, tests={}, level="mine", energy_unit="Hartree")
    assert (given.test_file, given.tests, given.level) == (None, {}, "mine")
    assert given.labels_of(given.file).energy_unit == "Hartree"


def test_a_path_is_the_file_or_the_folder_of_several():
    one = section(catalogue="rmd17/ethanol", path="here/mine.npz", test_frames=4)
    assert one.file == Path("here/mine.npz")
    several = section(catalogue="acac", path="here")
    assert several.files[:2] == [Path("here/train_300K.xyz"), Path("here/test_MD_300K.xyz")]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"catalogue": "rmd17/etanol"},
            "catalogue: no set 'rmd17/etanol' in the catalogue; did you mean rmd17/ethanol",
        ),
        ({"catalogue": "?"}, "catalogue: no set '?' in the catalogue; `piwsl data list` says which there are"),
        ({"catalogue": "lmnto"}, "catalogue: 'lmnto' is not downloaded here; get it from https://doi.org/"),
        ({"catalogue": "3bpa", "file": "a.xyz"}, "file: is the catalogue's; say path for what is there already"),
        ({"path": "a", "file": "b.xyz"}, "path: is of a set of the catalogue; say file"),
        ({"catalogue": 3}, "catalogue: expected text, found 3"),
        ({"catalogue": "3bpa", "path": ["a"]}, "path: expected text, found ['a']"),
        ({"catalogue": "3bpa", "paht": "a"}, "unknown key 'paht'; did you mean 'path'?"),
    ],
)
def test_what_is_not_right_is_said_in_one_line(keys, said):
    assert refusal(**keys, test_frames=4).startswith(said)


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    experiment = plain_experiment() | {"sizes": [3], "levels": {}}
    experiment["models"]["painn"]["atomic_references"] = "fitted"
    experiment["datasets"] = {"mine": {"catalogue": "rmd17/ethanol", "test_frames": 1}}
    Path("config.yaml").write_text(yaml.safe_dump(experiment))
    return Path("config.yaml")


def test_an_experiment_is_in_order_before_its_set_is_there(config):
    assert remarks(load_experiment(config)) == [
        "mine: rmd17/ethanol is downloaded when it runs: https://figshare.com/ndownloader/files/23950376"
    ]


def test_a_set_that_is_there_is_looked_at_as_any_file(config):
    path = find("rmd17/ethanol").sources()[1].path
    path.parent.mkdir(parents=True)
    frames = morse_frames("CH3CH2OH", 3, forces=True)
    energies, forces = ([atoms.info[ENERGY_KEY] for atoms in frames], [atoms.arrays[FORCES_KEY] for atoms in frames])
    where = [atoms.positions for atoms in frames]
    np.savez(path, nuclear_charges=frames[0].numbers, coords=where, energies=energies, forces=forces)
    with pytest.raises(ConfigError, match="sizes: 3 is more than the training frames of dataset 'mine'"):
        load_experiment(config)


def test_jobs_that_are_cut_by_its_frames_ask_for_the_set_first(config):
    config.write_text(config.read_text().replace("catalogue:", "cheap_levels: [gfn2-xtb]\n    catalogue:"))
    with pytest.raises(ConfigError, match=r"not here yet; say `piwsl data download rmd17/ethanol` first"):
        load_experiment(config)


@pytest.mark.parametrize(("published", "tests"), [("3bpa", 5), ("acac", 3)])
def test_a_published_set_of_several_files_is_read_where_it_is(tmp_path, published, tests):
    """Extended XYZ with `energy` and `forces`, as 3BPA and AcAc have it."""
    for name in find(published).files:
        frames = morse_frames("H2O", 4, forces=True)
        for atoms in frames:
            atoms.info["energy"], atoms.arrays["forces"] = atoms.info.pop(ENERGY_KEY), atoms.arrays.pop(FORCES_KEY)
        write_frames(tmp_path / name, frames)
    given = section(catalogue=published, path=str(tmp_path))
    training, test = read_files(given)
    assert len(training.frames) == test.with_label(FORCES_KEY) == 4
    found = [read_files(given.tested_on(name), checked=False)[0].with_label(ENERGY_KEY) for name in given.tests]
    assert found == [4] * tests


def test_the_schema_does_without_a_file():
    given = Experiment.model_json_schema()["$defs"]["GivenDataset"]
    assert "file" not in given.get("required", [])


def test_the_report_says_whom_to_cite():
    config = plain_experiment() | {"sizes": [3], "levels": {}}
    published = {"catalogue": "rmd17/ethanol", "test_frames": 1}
    config["datasets"] = {"published": published, "mine": {"file": "a.xyz", "test_frames": 1, "level": "PBE"}}
    experiment = parse_section(Experiment, config, "config.yaml")
    html = GivenLevels().html(Context(experiment, pd.DataFrame(), {}, [], [], [], None))
    assert "labels of level PBE/def2-SVP, computed elsewhere: A. S. Christensen, O. A. von Lilienfeld" in html
    assert "labels of level PBE, computed elsewhere.</p>" in html


# The command line.


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["data", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_list_has_a_line_a_set_that_says_whether_it_was_tried():
    lines = said("list").splitlines()
    assert [line.split()[0] for line in lines] == list(entries())
    for line in lines:
        assert f"verified: {find(line.split()[0]).verified} " in line


def test_show_says_whom_to_cite_and_what_is_not_known():
    shown = said("show", "rmd17/ethanol")
    for text in (
        "Christensen",
        "CC0",
        "PBE/def2-SVP",
        "kcal/mol",
        "verified: format (published frames of ethanol",
        "not known; kept at the first download",
    ):
        assert text in shown
    ani = said("show", "ani1x")
    assert "verified: no (files in this format" in ani
    assert "brings:   wb97x_tz, ccsdt_cbs, hf_dz, hf_tz, hf_qz" in ani
    result = CliRunner().invoke(app, ["data", "show", "rmd71/ethanol"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "did you mean rmd17/ethanol" in result.output


def test_download_brings_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    brought: list[Path] = []

    def bring(source: Source) -> None:
        source.path.parent.mkdir(parents=True, exist_ok=True)
        source.path.touch()
        brought.append(source.path)

    monkeypatch.setattr(download, "download", bring)
    monkeypatch.setattr(download, "unpack", lambda archive, sources: [bring(source) for source in sources])
    positions = [f"index_{part}_0{number}.csv" for number in range(1, 6) for part in ("train", "test")]
    files = ["rmd17.tar.bz2", "rmd17_ethanol.npz", *positions]
    assert said("download", "rmd17/ethanol").split() == [f"results/downloads/rmd17/{name}" for name in files]
    said("download", "rmd17/toluene")
    assert [path.name for path in brought] == [*files, "rmd17_toluene.npz"]
    result = CliRunner().invoke(app, ["data", "download", "lmnto"])
    assert (result.exit_code, "say path in the config" in result.output) == (1, True)


def test_a_checksum_of_the_catalogue_is_that_of_what_is_downloaded():
    own = {"about": "", "levels": [""], "units": "", "format": "npz", "citation": "", "licence": "", "homepage": ""}
    known = {"address": "https://a/", "sha256": {"b.npz": "0" * 64}, "splits": "", "tried": ""}
    entry = Entry("a", "a", file="b.npz", **own, **known)
    assert entry.sources() == [Source(DOWNLOADS / "a" / "b.npz", "https://a/b.npz", "0" * 64)]
    assert catalogue.Entry("a", "a", file="c.npz", archive="b.npz", **own, **known).sources()[0].sha256 == "0" * 64
