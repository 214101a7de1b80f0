"""Published sets in an experiment: planned before they are there, downloaded once, or taken from where they are."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import units
from experiment import jobs_in, planned
from helpers import ROOT, morse_frames, snakemake

from piwsl.catalogue import DOWNLOADS, entries
from piwsl.config import Experiment, parse_section, read_yaml
from piwsl.data.dataset import TEST, Dataset
from piwsl.files import read_json
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY
from piwsl.workflow.graph import every_job
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.layout import Layout

ETHANOL = ROOT / "workflow" / "experiments" / "rmd17-ethanol.yaml"
SET = "rmd17/ethanol"
TINY = {
    "experiment": "tiny",
    "datasets": {"mine": {"catalogue": SET, "test_frames": 4}},
    "models": {"painn": {"architecture": "painn", "features": 8, "layers": 1, "training": {"steps": 10}}},
    "losses": {"supervised": {}},
    "sizes": [8],
    "seeds": [0],
}
# Read by Python when it starts: where the catalogue says that a family is.
ELSEWHERE = """
from dataclasses import replace
from piwsl import catalogue
found = {{
    name: replace(entry, address={address!r}) if entry.family == {family!r} else entry
    for name, entry in catalogue.entries().items()
}}
catalogue.entries = lambda: found
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def published(count: int) -> bytes:
    """Return an NPZ file as rMD17 has them."""
    frames = morse_frames("CH3CH2OH", count, forces=True)
    content = {
        "nuclear_charges": frames[0].numbers,
        "coords": [atoms.positions for atoms in frames],
        "energies": [atoms.info[ENERGY_KEY] for atoms in frames],
        "forces": [atoms.arrays[FORCES_KEY] for atoms in frames],
    }
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


def divided(number: int) -> dict[str, list[int]]:
    """Return the positions of a published split, as they stand in the archive: in no order."""
    order = np.random.default_rng(number).permutation(30).tolist()
    return {"train": order[:12], "test": order[12:20]}


@pytest.fixture
def archive(tmp_path_factory) -> Iterator[str]:
    """The address of an archive on loopback that is packed as rMD17 is."""
    served = tmp_path_factory.mktemp("served")
    frames = published(30)
    members = {f"npz_data/{name}.npz": frames for name in ("rmd17_ethanol", "rmd17_toluene")}
    for number in range(1, 6):
        for part, positions in divided(number).items():
            members[f"splits/index_{part}_0{number}.csv"] = "".join(f"{each}\n" for each in positions).encode()
    with tarfile.open(served / "rmd17.tar.bz2", "w:bz2") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(f"rmd17/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/rmd17.tar.bz2"
        server.shutdown()
        thread.join()


def elsewhere(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say another address of the set to every Python that is started."""
    beside = folder / "beside"
    beside.mkdir()
    (beside / "sitecustomize.py").write_text(ELSEWHERE.format(family="rmd17", address=address))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(beside), str(ROOT / "src")]))


def test_the_experiment_of_ethanol_is_planned_before_its_set_is_there(folder):
    jobs = planned(folder, "--configfile", str(ETHANOL), vibrations=True)
    assert (jobs["download"], jobs["unpack"], jobs["train"], jobs["evaluate"]) == (1, 1, 36, 36)
    every = Jobs(parse_section(Experiment, read_yaml(ETHANOL), "ethanol"), ROOT / "workflow" / "scripts")
    assert Counter(job.rule for job in every_job(every)) == jobs
    by_name = {job.name: job for job in every_job(every)}
    assert by_name["unpack/rmd17/rmd17_ethanol.npz"].after == ("download/rmd17/rmd17.tar.bz2",)
    assert by_name["dataset/ethanol/test"].after == ("unpack/rmd17/rmd17_ethanol.npz",)


def test_sets_are_brought_where_snakemake_runs_whatever_the_executor():
    """Nodes of a cluster may not reach the network."""
    bringing = re.findall(r"^rule (\w+):", (ROOT / "workflow/rules/downloads.smk").read_text(), flags=re.MULTILINE)
    local = re.search(r"^localrules:\n((?: +\w+,\n)+)", (ROOT / "Snakefile").read_text(), flags=re.MULTILINE)
    assert {*bringing} == {"download", "unpack"}
    assert {*bringing} <= {*re.findall(r"\w+", local[1])}


def test_what_is_there_already_is_not_downloaded(folder):
    (folder / "here.npz").write_bytes(published(20))
    config = TINY | {"datasets": {"mine": {"catalogue": SET, "path": "here.npz", "test_frames": 4}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    jobs = planned(folder)
    assert not {"download", "unpack"} & jobs.keys()
    assert jobs["import_part"] == 2


def test_a_published_split_that_is_there_already_is_not_downloaded(folder):
    for part, positions in divided(2).items():
        (folder / "here" / "splits").mkdir(parents=True, exist_ok=True)
        (folder / "here" / "splits" / f"index_{part}_02.csv").write_text("".join(f"{each}\n" for each in positions))
    (folder / "here" / "npz_data").mkdir()
    (folder / "here" / "npz_data" / "rmd17_ethanol.npz").write_bytes(published(30))
    said = {"catalogue": SET, "path": "here/npz_data/rmd17_ethanol.npz", "split": {"published": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(TINY | {"datasets": {"mine": said}}))
    jobs = planned(folder)
    assert not {"download", "unpack"} & jobs.keys()
    assert jobs["import_part"] == 2


def test_several_test_sets_are_one_archive(folder):
    config = TINY | {"datasets": {"mine": {"catalogue": "3bpa"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    jobs = planned(folder)
    assert (jobs["download"], jobs["unpack"], jobs["make_test_set"], jobs["evaluate_on"]) == (1, 7, 5, 5)


def test_a_set_is_downloaded_once_and_then_it_is_there(folder, archive, monkeypatch):
    elsewhere(folder, archive, monkeypatch)
    here, made = DOWNLOADS / "rmd17", Layout("tiny").dataset("mine").whole
    done = snakemake(folder, made)
    assert done.returncode == 0, done.stderr
    record = read_json(folder / here / "rmd17.tar.bz2.json")
    assert record["address"] == archive
    assert not (folder / here / "rmd17_toluene.npz").exists()
    with Dataset(folder / made) as dataset:
        assert len(dataset) == 30

    def again() -> dict[str, int]:
        planned_now = snakemake(folder, "--dry-run", made)
        assert planned_now.returncode == 0, planned_now.stderr
        return jobs_in(planned_now.stdout)

    assert again() == {}
    (folder / here / "rmd17.tar.bz2").unlink()
    assert again() == {}


def test_a_published_split_comes_out_of_the_archive_and_says_what_is_tested(folder, archive, monkeypatch):
    elsewhere(folder, archive, monkeypatch)
    (folder / "config.yaml").write_text(
        yaml.safe_dump(TINY | {"datasets": {"mine": {"catalogue": SET, "split": {"published": 2}}}})
    )
    made = Layout("tiny").dataset("mine")
    done = snakemake(folder, made.whole)
    assert done.returncode == 0, done.stderr
    split, wanted = read_json(folder / made.split), divided(2)
    assert split["training"]["positions"] == sorted(wanted["train"])
    assert split["test"]["positions"] == sorted(wanted["test"])
    energies = np.load(io.BytesIO(published(30)))["energies"] * units.kcal / units.mol
    with Dataset(folder / made.whole) as dataset:
        tested = [each.energy for each in dataset.structures(dataset.indices(TEST))]
    np.testing.assert_allclose(tested, energies[sorted(wanted["test"])])


def test_what_is_not_at_its_address_is_said_in_one_line(folder, archive, monkeypatch):
    elsewhere(folder, f"{archive}.moved", monkeypatch)
    done = snakemake(folder, str(DOWNLOADS / "rmd17" / "rmd17.tar.bz2"))
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"error: {archive}.moved: the server says 404 File not found; get it elsewhere, and say path" in said
    assert "Traceback" not in said


def test_a_set_that_no_run_takes_is_not_brought():
    both = {"mine": {"catalogue": SET, "test_frames": 4}, "other": {"catalogue": "3bpa"}}
    config = TINY | {"datasets": both, "only": [{"dataset": "mine"}]}
    jobs = Jobs(parse_section(Experiment, config, "config.yaml"), ROOT / "workflow" / "scripts")
    brought = [job.name for job in every_job(jobs) if job.rule in ("download", "unpack")]
    assert brought == ["download/rmd17/rmd17.tar.bz2", "unpack/rmd17/rmd17_ethanol.npz"]


def test_every_set_of_the_catalogue_can_be_planned():
    for name, entry in entries().items():
        own = {} if entry.test_file else {"test_frames": 4}
        path = {} if entry.address else {"path": "here.zip"}
        config = TINY | {"datasets": {"mine": {"catalogue": name} | own | path}}
        jobs = Jobs(parse_section(Experiment, config, "config.yaml"), ROOT / "workflow" / "scripts")
        rules = Counter(job.rule for job in every_job(jobs))
        assert rules["download"] == (1 if entry.archive else len(entry.files)) * (entry.address is not None)
        assert rules["unpack"] == (len(entry.files) if entry.archive else 0)
