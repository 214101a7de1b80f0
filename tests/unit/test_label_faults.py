"""What befalls labelling: nothing wrong is kept, nothing finished is lost, and no frame is blamed for the machine."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, level_records
from test_parts import COUPLED_CLUSTER, Watch, focal_point, labelled, record_of, single, water

from piwsl import files
from piwsl.errors import PiwslError
from piwsl.files import read_json, write_new_json
from piwsl.reference import calculations, store
from piwsl.reference.failures import JobFailure
from piwsl.reference.parts import PartStore
from piwsl.reference.store import STORED_FORCES, LabelStore, geometry, geometry_hash
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY

HF = single("hf", "sto-3g")


@pytest.fixture
def watch(monkeypatch) -> Watch:
    return Watch(monkeypatch)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_store_that_can_only_be_read_gives_what_it_has_and_stops_before_anything_is_computed(disk, watch):
    frame, _ = labelled(water(1), COUPLED_CLUSTER, disk / "store")
    remount(disk, "ro")
    watch.forget()
    again, record = labelled(water(1), COUPLED_CLUSTER, disk / "store")
    assert (again.info[ENERGY_KEY], record["stored"]) == (frame.info[ENERGY_KEY], True)
    with pytest.raises(JobFailure, match=r"storing the energy: .*the disk can only be read.*finished frames are kept"):
        labelled(water(2), COUPLED_CLUSTER, disk / "store")
    assert watch.scfs == []
    remount(disk, "rw")
    labelled(water(2), COUPLED_CLUSTER, disk / "store")
    assert len(level_records(disk / "store")) == 2


def test_a_store_without_room_stops_before_anything_is_computed(disk, watch):
    labelled(water(1), COUPLED_CLUSTER, disk / "store")
    watch.forget()
    filling = disk / "filling"
    subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4096"], capture_output=True)
    with pytest.raises(JobFailure, match="storing the energy: no room left on the disk of"):
        labelled(water(2), COUPLED_CLUSTER, disk / "store")
    assert watch.scfs == []
    assert not list(disk.rglob(".*"))
    assert not [path for path in disk.rglob("*") if path.stat().st_size == 0]  # such as a claim, for which others wait
    filling.unlink()
    labelled(water(2), COUPLED_CLUSTER, disk / "store")


def test_a_disk_that_fills_up_in_a_frame_keeps_the_parts_that_were_computed(disk, watch, monkeypatch):
    filling = disk / "filling"

    def full_before_coupled_cluster(mean_field, methods, *rest):
        if "ccsd(t)" in methods:
            subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4096"], capture_output=True)
        return watch.correlate(mean_field, methods, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(calculations, "correlate", full_before_coupled_cluster)
        with pytest.raises(JobFailure, match="no room left on the disk"):
            labelled(water(), focal_point(), disk / "store")
    filling.unlink()
    watch.forget()
    labelled(water(), focal_point(), disk / "store")
    assert watch.scfs == ["hf/sto-3g"]
    assert watch.correlated == [{"mp2", "ccsd(t)"}]


REFUSALS = {
    "no room": OSError(errno.ENOSPC, "No space left on device"),
    "no quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "no such thing any more": OSError(errno.ESTALE, "Stale file handle"),
    "too many files": OSError(errno.EMFILE, "Too many open files"),
    "something unforeseen": RuntimeError("a library of the file server failed"),
}


@pytest.mark.parametrize("what", ["probe", "write_json", "write_new_json"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_whatever_goes_wrong_with_the_store_is_the_failure_of_the_job_and_of_no_frame(
    tmp_path, monkeypatch, watch, what, refusal
):
    def refuse(*given: Any) -> None:
        raise REFUSALS[refusal]

    with monkeypatch.context() as patch:
        patch.setattr(store, what, refuse)
        with pytest.raises(JobFailure, match=r"storing the energy: .*finished frames are kept"):
            labelled(water(), HF, tmp_path)
    assert what != "probe" or watch.scfs == []
    labelled(water(), HF, tmp_path)


def test_a_quota_that_ends_with_a_larger_record_is_found_before(tmp_path, monkeypatch, watch):
    # Servers of files may say so only when data is to go down to the disk.
    def fsync(number: int) -> None:
        if os.fstat(number).st_size > 10_000:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(JobFailure, match="no room left"):
        labelled(water(), HF, tmp_path)
    assert watch.scfs == []


WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_parts import labelled, water
from test_label_faults import HF
from piwsl import files
synced = os.fsync
def killed(number):
    if os.fstat(number).st_size < 9999:  # no probe of the disk
        os.kill(os.getpid(), signal.SIGKILL)
    synced(number)
files.os.fsync = killed
labelled(water(), HF, Path({store!r}))
"""


def test_a_kill_while_a_record_is_written_leaves_no_record(tmp_path):
    paths = [str(ROOT / "tests"), str(ROOT / "tests/unit")]
    script = WHILE_WRITING.format(paths=paths, store=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert not [path for path in tmp_path.rglob("*.json") if not path.name.startswith(".")]
    _, record = labelled(water(), HF, tmp_path)
    assert record["stored"] is False
    assert len(level_records(tmp_path)) == 1


@pytest.mark.parametrize("what", ["record", "part", "about the level", "about the part"])
def test_a_folder_in_the_place_of_a_file_is_set_aside_with_what_is_in_it(tmp_path, what):
    key = geometry_hash(water(), 0, 1)
    level, part = LabelStore(tmp_path, HF), PartStore(tmp_path, HF).folders["hf/sto-3g"]
    place = {
        "record": level.path(key),
        "part": part.path(key),
        "about the level": level.folder / "level.json",
        "about the part": part.folder / "part.json",
    }[what]
    place.mkdir(parents=True)
    (place / "of somebody").write_text("kept")
    labelled(water(), HF, tmp_path)
    assert read_json(place)
    assert [path.read_text() for path in tmp_path.rglob("of somebody")] == ["kept"]


@pytest.mark.parametrize("target", ["absent.json", "given.json"])
def test_a_link_in_the_place_of_a_record_is_replaced_and_what_it_points_to_is_left(tmp_path, target):
    path = LabelStore(tmp_path, HF).path(geometry_hash(water(), 0, 1))
    path.parent.mkdir(parents=True)
    (tmp_path / "given.json").write_text("mine")
    path.symlink_to(tmp_path / target)
    labelled(water(), HF, tmp_path)
    assert not path.is_symlink()
    assert read_json(path)["level"] == LabelStore(tmp_path, HF).key
    assert (tmp_path / "given.json").read_text() == "mine"


AT_ONCE = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_parts import focal_point, labelled, water
print("ready", flush=True)
sys.stdin.readline()
frame, record = labelled(water(), focal_point(), Path({store!r}), {forces!r})
print(frame.info["REF_energy"])
"""


def test_two_jobs_on_one_frame_at_once_have_one_energy_and_leave_the_richer_record(tmp_path):
    paths = [str(ROOT / "tests"), str(ROOT / "tests/unit")]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE.format(paths=paths, store=str(tmp_path), forces=forces)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for forces in ("analytic", None)
    ]  # fmt: skip
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("\n")
        job.stdin.flush()
    energies = [float(job.communicate()[0]) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert energies[0] == pytest.approx(energies[1], abs=1e-7)
    (record,) = level_records(tmp_path)
    assert STORED_FORCES in read_json(record)
    assert not list(tmp_path.rglob(".*"))


def records_of(forces: bool) -> dict[str, Any]:
    labels = {"energy_eV": -2040.0} | ({STORED_FORCES: [[0.0] * 3] * 3} if forces else {})
    return labels | geometry(water(), 0, 1) | {"components_Eh": {"hf/sto-3g": -2040.0 / 27.211386024367243}, "scf": {}}


def test_a_richer_record_is_never_replaced_by_a_poorer_one_whoever_writes_when(tmp_path):
    folder, key = LabelStore(tmp_path, HF), geometry_hash(water(), 0, 1)
    barrier = threading.Barrier(8)

    def write(forces: bool) -> None:
        barrier.wait()
        folder.add(key, records_of(forces))

    for _ in range(10):
        threads = [threading.Thread(target=write, args=(number == 3,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = folder.find(key)
        assert found is not None
        assert STORED_FORCES in found
        folder.path(key).unlink()
    assert STORED_FORCES in folder.add(key, records_of(True))
    assert STORED_FORCES in folder.add(key, records_of(False))  # what stands is given back


def test_a_part_with_a_gradient_stays_where_one_without_is_computed(tmp_path):
    labelled(water(), HF, tmp_path, "analytic")
    path = record_of(tmp_path, HF, "hf/sto-3g", water())
    before = path.read_bytes()
    part = json.loads(before)
    del part["gradient_Eh_per_bohr"], part["part"]
    PartStore(tmp_path, HF).folders["hf/sto-3g"].add(geometry_hash(water(), 0, 1), part)
    assert path.read_bytes() == before


def test_of_those_who_write_a_new_file_at_once_one_does(tmp_path):
    written: list[int] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        if write_new_json(tmp_path / "new.json", number):
            written.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert read_json(tmp_path / "new.json") == written[0]


def test_a_disk_without_hard_links_takes_records_too(tmp_path, monkeypatch):
    def no_links(*given: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    labelled(water(), HF, tmp_path)
    assert len(level_records(tmp_path)) == 1
    assert write_new_json(tmp_path / "a.json", 1)
    assert not write_new_json(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1


def test_a_file_in_the_place_of_a_folder_stops_the_job(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(PiwslError, match=r"a part of the path is a file, not a folder|is a file, not a folder"):
        labelled(water(), HF, tmp_path / "store")


def test_forces_are_added_to_a_finished_energy_which_stays(tmp_path):
    before, _ = labelled(water(), HF, tmp_path)
    after, _ = labelled(water(), HF, tmp_path, "analytic")
    assert FORCES_KEY in after.arrays
    assert after.info[ENERGY_KEY] == pytest.approx(before.info[ENERGY_KEY], abs=1e-7)
    assert np.isfinite(after.arrays[FORCES_KEY]).all()
