"""Jobs that need the same energies at the same time: each is computed once, and no job waits for a dead one."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from helpers import MEMORY_MB, until

from piwsl.files import read_json, write_json
from piwsl.reference import labelling
from piwsl.reference.claims import Claims, Holder, unclaimed_first
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.labelling import Labeller, label_frames
from piwsl.reference.store import LabelStore

HF = PySCF.model_validate({"method": "hf", "basis": "cc-pvdz"})
WATER = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def stretched(number: int) -> Atoms:
    atoms = WATER.copy()
    atoms.positions[1, 0] += 0.01 * number
    return atoms


FRAMES = [stretched(number) for number in range(8)]


def label_all(store: Path, together: Any, results: Any, forces: Any) -> None:
    """Label all frames as another process, which begins with its first energy when all have claimed one."""
    compute, begun = Labeller._compute, []

    def compute_together(self: Labeller, *given: Any) -> dict[str, Any]:
        if not begun:
            begun.append(together.wait(600))
        return compute(self, *given)

    labelling.CLAIMED_FROM_S = 0.0
    Labeller._compute = compute_together  # type: ignore[method-assign]
    lines: list[str] = []
    frames, rows = label_frames(FRAMES, HF, store, forces, MEMORY_MB, lines.append)
    results.put((len(frames), [row["geometry"] for row in rows], sum(not row["stored"] for row in rows), lines))


@pytest.mark.parametrize("forces", [None, "slope"])
def test_two_jobs_at_once_compute_each_frame_once(tmp_path, forces):
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(2), context.Queue()
    jobs = [context.Process(target=label_all, args=(tmp_path, together, results, forces)) for _ in range(2)]
    for job in jobs:
        job.start()
    found = [results.get(timeout=600) for _ in jobs]
    for job in jobs:
        job.join()
    alone = label_frames(FRAMES, HF, tmp_path / "other", None, MEMORY_MB, lambda line: None)[1]
    for number, geometries, _, _ in found:
        assert number == len(FRAMES)
        assert geometries == [row["geometry"] for row in alone]  # in the order of the frames, whoever computed them
    shares = [computed for _, _, computed, _ in found]
    assert sum(shares) == len(FRAMES)
    assert min(shares) > 0
    assert not [*(LabelStore(tmp_path, HF).folder / "claims").iterdir()]


def claimed(folder: Path, **said: Any) -> None:
    """Leave the claim of another; what is not said is as of this process."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "one", asdict(Holder.here()) | said)


def test_the_claim_of_a_process_that_is_no_more_counts_no_more(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claimed(tmp_path, pid=dead.pid)
    claim = Claims(tmp_path).take("one")
    assert claim is not None
    assert read_json(claim.path)["pid"] == os.getpid()


def test_a_claim_of_another_machine_counts_as_long_as_it_is_touched(tmp_path):
    claimed(tmp_path, host="elsewhere", pid=1)
    claims = Claims(tmp_path, silent_s=0.3)
    for beat in range(3):
        assert claims.take("one") is None
        time.sleep(0.2)
        os.utime(tmp_path / "one", (beat, beat))  # its clock may say anything
    assert claims.take("one") is None
    time.sleep(0.4)
    assert claims.take("one") is not None


def test_a_claim_is_touched_and_taken_back(tmp_path):
    claims = Claims(tmp_path / "claims", beat_s=0.05)
    claim = claims.take("one")
    assert claim is not None
    os.utime(claim.path, (0, 0))
    until(lambda: claim.path.stat().st_mtime > 0, "touch")
    assert claims.take("one") is None
    claim.release()
    assert not claim.path.exists()
    second = claims.take("one")
    assert second is not None
    second.release()


def test_a_job_that_was_put_back_in_the_queue_does_not_wait_for_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    claimed(tmp_path, host="elsewhere")
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert Claims(tmp_path).take("one") is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert Claims(tmp_path).take("one") is not None


def test_a_process_of_a_container_is_not_looked_for_outside(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claimed(tmp_path, pid=dead.pid, world="another")
    assert Claims(tmp_path).take("one") is None


def test_a_claim_that_another_has_taken_over_is_left_to_it(tmp_path):
    claim = Claims(tmp_path).take("one")
    assert claim is not None
    claimed(tmp_path, token="another")
    claim.release()
    assert read_json(claim.path)["token"] == "another"


def test_a_dead_claim_that_cannot_be_taken_away_is_not_waited_for(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claimed(tmp_path, pid=dead.pid)

    def refused(*_given: Any, **_named: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refused)
    assert Claims(tmp_path).take("one") is not None


def test_a_claim_whose_file_is_nonsense_counts_until_it_is_silent(tmp_path):
    tmp_path.joinpath("one").write_text('{"pid": 1e30}')
    claims = Claims(tmp_path, silent_s=0.1)
    assert claims.take("one") is None
    assert claims.holder("one") is None
    time.sleep(0.2)
    assert claims.take("one") is not None


def test_what_others_compute_comes_last_and_is_waited_for_with_one_line(tmp_path):
    claimed(tmp_path, host="elsewhere", pid=7)
    lines, order = [], []

    def tell(line: str) -> None:
        lines.append(line)
        (tmp_path / "one").unlink()

    for position in unclaimed_first(["one", "two", None], Claims(tmp_path), tell, poll_s=0.01):
        order.append(position)
    assert order == [1, 2, 0]
    assert lines == ["1 frames are being computed by process 7 on elsewhere; waiting"]


def test_a_frame_that_ends_the_job_leaves_no_claim(tmp_path, monkeypatch):
    def give_out(*_given: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Labeller, "_compute", give_out)
    with pytest.raises(MemoryError) as kept:  # with the frames of its traceback
        label_frames(FRAMES, HF, tmp_path, None, MEMORY_MB, lambda line: None)
    assert kept.traceback
    assert not [*(LabelStore(tmp_path, HF).folder / "claims").iterdir()]


def test_without_claims_energies_are_computed_all_the_same(tmp_path):
    folder = LabelStore(tmp_path, HF).folder
    folder.mkdir(parents=True)
    (folder / "claims").write_text("")  # no folder can be made there
    frames, _ = label_frames(FRAMES[:2], HF, tmp_path, None, MEMORY_MB, lambda line: None)
    assert len(frames) == 2


def test_frames_that_are_known_are_not_claimed(tmp_path):
    label_frames(FRAMES[:2], HF, tmp_path, None, MEMORY_MB, lambda line: None)
    labeller = Labeller(HF, LabelStore(tmp_path, HF), MEMORY_MB)
    assert labeller.claim_name(FRAMES[0], None) is None
    assert labeller.claim_name(FRAMES[0], "slope") is not None
    assert labeller.claim_name(FRAMES[2], None) is not None
    periodic = FRAMES[2].copy()
    periodic.pbc = True
    assert labeller.claim_name(periodic, None) is None
