"""What happens to reference calculations when the machine gives out: nothing is lost, and nothing wrong is kept."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from ase.build import molecule
from helpers import displaced, level_records

from piwsl.errors import PiwslError
from piwsl.files import read_json, read_json_lines, unchanged, write_text
from piwsl.reference import calculations
from piwsl.reference.calculations import run_level
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.failures import JobFailure, failing_at
from piwsl.reference.labelling import label_frames
from piwsl.reference.store import LabelStore
from piwsl.structures.frames import read_frames, write_frames

CCSD = {"method": "ccsd", "basis": "cc-pvtz"}
HF = {"method": "hf", "basis": "sto-3g", "density_fitting": False}


class Disk(NamedTuple):
    """A folder on a disk that holds little."""

    folder: Path
    limit: Callable[[], None]
    """To be called in a process that shall find it small."""


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Disk]:
    """A file system of 1 MB where root may mount one, else a folder and a limit on the size of files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "piwsl-test", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        yield Disk(folder, lambda: None)
        subprocess.run(["umount", str(folder)], check=True)
    else:
        yield Disk(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)))


def label(
    folder: Path, level: dict[str, str], *arguments: str, limit: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "level.yaml").write_text(yaml.safe_dump(level))
    command = [sys.executable, "-m", "piwsl", "label", "in.xyz", "out.xyz", "--level", "level.yaml", *arguments]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=folder, env=variables, preexec_fn=limit, capture_output=True, text=True)


def energies(store: Path) -> list[float]:
    return [read_json(path)["energy_eV"] for path in level_records(store)]


def test_a_full_disk_of_temporary_files_stops_the_job_with_a_message_and_keeps_no_half_energy(tmp_path, small_disk):
    write_frames(tmp_path / "in.xyz", [displaced("CH3OH", 0.02, np.random.default_rng(0))])
    # Little memory makes the amplitudes' integrals go to the disk.
    stopped = label(
        tmp_path, CCSD, "--store", "store", "--mem-mb", "700", limit=small_disk.limit, TMPDIR=str(small_disk.folder)
    )
    assert stopped.returncode == 1
    assert f"error: ccsd/cc-pvtz: no room left on the disk of {small_disk.folder}" in stopped.stderr
    assert energies(tmp_path / "store") == []
    assert not (tmp_path / "out.xyz").exists()


def test_a_full_disk_of_results_stops_the_job_and_the_next_attempt_goes_on(tmp_path, small_disk):
    rng = np.random.default_rng(0)
    write_frames(tmp_path / "in.xyz", [displaced("H2O", 0.02, rng) for _ in range(3)])
    store = small_disk.folder / "store"
    filling = small_disk.folder / "filling"
    if os.path.ismount(small_disk.folder):
        subprocess.run(["dd", "if=/dev/zero", f"of={filling}"], capture_output=True)  # ends when the disk is full
    stopped = label(tmp_path, HF, "--store", str(store), limit=small_disk.limit)
    assert stopped.returncode == 1
    assert "no room left on the disk" in stopped.stderr
    assert str(store) in stopped.stderr
    assert energies(store) == []
    filling.unlink(missing_ok=True)
    finished = label(tmp_path, HF, "--store", str(store))
    assert finished.returncode == 0, finished.stderr
    assert len(energies(store)) == len(read_frames(tmp_path / "out.xyz")) == 3


def test_a_store_that_cannot_be_written_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(calculations, "run_level", lambda *rest: pytest.fail("was computed"))
    with pytest.raises(PiwslError, match=r"file.*a part of the path is a file, not a folder"):
        label_frames([molecule("H2")], PySCF.model_validate(HF), tmp_path / "file" / "store", None, 1000)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO, errno.ESTALE])
def test_what_the_disk_refuses_is_the_failure_of_the_job_and_not_of_the_frame(tmp_path, number, named):
    with pytest.raises(JobFailure, match=f"hf: {tmp_path}.*; finished frames are kept"), failing_at("hf", tmp_path):
        raise OSError(number, os.strerror(number), *([str(tmp_path / "integrals")] if named else []))


def test_a_store_that_cannot_be_written_any_longer_stops_the_job(tmp_path):
    level = PySCF.model_validate(HF)

    def block(line: str) -> None:
        for folder in LabelStore(tmp_path, level).folder.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
        for number in range(256):
            (LabelStore(tmp_path, level).folder / f"{number:02x}").write_text("")

    with pytest.raises(JobFailure, match=r"storing the energy: .*finished frames are kept"):
        label_frames(
            [molecule("H2"), displaced("H2", 0.1, np.random.default_rng(0))], level, tmp_path, None, 1000, block
        )


LABEL_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from piwsl.errors import PiwslError
from piwsl.structures.frames import read_frames
from piwsl.reference.calculations import run_level
from piwsl.reference.calculations import run_level
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.labelling import label_frames

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
level = PySCF.model_validate({"method": "ccsd", "basis": "cc-pvtz"})
try:
    label_frames(read_frames(Path("in.xyz")), level, Path("store"), None, memory_mb=4000)
except PiwslError as error:
    sys.exit(f"error: {error}")
"""


def test_too_little_memory_stops_the_job_with_a_message_and_keeps_what_is_finished(tmp_path):
    rng = np.random.default_rng(0)
    write_frames(tmp_path / "in.xyz", [displaced("H2", 0.02, rng), displaced("CH3OH", 0.02, rng)])
    command = [sys.executable, "-c", LABEL_IN_LITTLE_MEMORY, str(300_000_000)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    stopped = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert "cc-pvtz: out of memory" in stopped.stderr
    assert "raise labelling.mem_mb" in stopped.stderr
    assert len(energies(tmp_path / "store")) == 1


def test_where_memory_is_held_by_what_the_process_did_before_the_message_says_how_much():
    level = PySCF.model_validate({"method": "mp2", "basis": "cc-pvdz"})
    with pytest.raises(JobFailure, match="df-mp2/cc-pvdz: out of memory") as stopped:
        run_level(molecule("H2O"), level, 0, 1, memory_mb=50)
    held = re.search(r"([\d,]+) MB of it held by this process before \(a new one holds less\)", str(stopped.value))
    assert held is not None
    assert 50 < float(held[1].replace(",", "")) < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 * 1.1


def test_an_unforeseen_error_in_one_frame_is_recorded_and_the_others_go_on(tmp_path):
    frames = [displaced("H2O", 0.02, np.random.default_rng(0)) for _ in range(2)]
    frames[0].info["multiplicity"] = 9
    write_frames(tmp_path / "in.xyz", frames)
    # Nine of ten electrons cannot be unpaired in seven orbitals.
    finished = label(tmp_path, HF, "--store", "store")
    assert finished.returncode == 1
    assert "1 of 2 frames labelled" in finished.stdout
    bad, good = read_json_lines(tmp_path / "out.jsonl")
    assert (bad["status"], good["status"]) == ("failed", "ok")
    assert bad["reason"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_who_may_read_a_file_is_the_umasks_to_say(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "new" / "file.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "file.txt").stat().st_mode) == mode
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_a_file_that_is_edited_while_it_is_read_is_said(tmp_path):
    frames, other = tmp_path / "frames.xyz", tmp_path / "other.xyz"
    for path in (frames, other):
        path.write_text("old")
    with unchanged([str(frames), str(other)]):
        frames.read_text()
    with (
        pytest.raises(PiwslError, match=r"frames.xyz: edited while it was read; start again"),
        unchanged([str(frames)]),
    ):
        frames.write_text("newer")
    # As editors save: another file of the same length and time takes its place.
    os.utime(other, ns=(frames.stat().st_atime_ns, frames.stat().st_mtime_ns))
    other.write_text("NEWER")
    with pytest.raises(PiwslError, match="edited"), unchanged([str(frames)]):
        other.replace(frames)
