"""What labelling takes is said before it starts, what cannot fit is refused, and large frames get several threads."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB

from piwsl.config import ComputedDataset, Cost, Level, SinglePoint, parse_level
from piwsl.config.level_checks import on_threads
from piwsl.errors import PiwslError
from piwsl.reference.components import MeanFieldKey
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.estimates import check_memory, duration, estimate
from piwsl.reference.labelling import label_frames
from piwsl.reference.orca import Run, input_text
from piwsl.reference.planning import frame_cost, label_batches
from piwsl.reference.program_level import Molecule

HOUR = 3600.0


class Slow(Level):
    """An energy of so many hours."""

    hours: float

    def single_point(self, atoms, charge, multiplicity, memory_mb, forces) -> SinglePoint:
        return SinglePoint(-1.0)

    def cost(self, atoms, charge, multiplicity, forces) -> Cost:
        return Cost(cpu_s=self.hours * HOUR * len(atoms) / 3, memory_mb=1000.0 * len(atoms))


def slow(hours: float) -> Slow:
    return Slow(engine="slow", hours=hours)


def with_info(**info) -> Atoms:
    atoms = molecule("H2O")
    atoms.info |= info
    return atoms


def test_frames_are_counted_by_what_they_take(tmp_path):
    frames = [molecule("H2O"), molecule("H2O"), molecule("CO2"), molecule("CH4")]
    takes = estimate(frames, slow(1.0), None, tmp_path)
    assert takes.cpu_s() == pytest.approx(HOUR * (3 + 5 / 3))
    assert takes.largest().example.get_chemical_formula() == "CH4"
    assert takes.in_words(1, 9000) == "estimate: 4 frames to compute; 4.7 h of CPU in all, 1.7 h and 5,000 MB a frame"
    assert takes.in_words(4, 9000) == (
        "estimate: 4 frames to compute; 4.7 h of CPU in all (2.3 h on 4 threads), 1.7 h and 5,000 MB a frame"
    )
    assert takes.in_words(1, 2000).endswith("5,000 MB a frame, more than --mem-mb 2,000: slower")


def test_what_is_stored_takes_nothing(tmp_path):
    level = parse_level({"engine": "tblite"}, "level")
    label_frames([molecule("H2O")], level, tmp_path, None, MEMORY_MB, progress=lambda line: None)
    takes = estimate([molecule("H2O"), molecule("CO2")], level, None, tmp_path)
    assert (takes.stored, [kind.example.get_chemical_formula() for kind in takes.kinds]) == (1, ["CO2"])
    assert estimate([molecule("H2O")], level, None, tmp_path).in_words(1, 9000) == "nothing to compute, 1 in the store"


@pytest.mark.parametrize(
    "broken",
    [
        with_info(charge="abc"),
        with_info(multiplicity=2),
        with_info(charge=0.5),
        Atoms("H2", cell=[9] * 3, pbc=True),
        Atoms(numbers=[500]),
    ],
    ids=["charge", "multiplicity", "half a charge", "periodic", "no element"],
)
def test_frames_that_will_fail_are_none_of_its_business(tmp_path, broken):
    level = PySCF.model_validate({"method": "hf", "basis": "sto-3g", "density_fitting": False})
    takes = estimate([broken, molecule("H2O")], level, None, tmp_path)
    assert [kind.frames for kind in takes.kinds] == [1]


def test_forces_by_differences_take_an_energy_for_each_displacement(tmp_path):
    one, many = (estimate([molecule("H2O")], slow(1.0), forces, tmp_path).cpu_s() for forces in (None, "differences"))
    assert many == pytest.approx(13 * one)


def test_displaced_energies_take_less_than_their_frame_and_no_search_for_unstable_directions():
    of_shell = {"closed": (molecule("H2CO"), 1), "open": (molecule("NO2"), 2)}
    level = PySCF.model_validate({"preset": "ccsdt-cbs"})
    shares = {}
    for shell, (atoms, multiplicity) in of_shell.items():
        frame, near = level.cost(atoms, 0, multiplicity, False), level.displaced_cost(atoms, 0, multiplicity)
        assert near.memory_mb == frame.memory_mb
        shares[shell] = near.cpu_s / frame.cpu_s
    assert 0.5 < shares["closed"] < 1.0
    assert shares["open"] < 0.5
    sums = parse_level({"engine": "sum", "plus": ["mp2-cbs", "ccsdt-cbs"], "minus": ["mp2-cbs"]}, "level")
    mp2 = PySCF.model_validate({"preset": "mp2-cbs"})
    own = level.displaced_cost(molecule("NO2"), 0, 2).cpu_s + 2 * mp2.displaced_cost(molecule("NO2"), 0, 2).cpu_s
    assert sums.displaced_cost(molecule("NO2"), 0, 2).cpu_s == pytest.approx(own)


def test_what_cannot_fit_is_refused_with_what_would(tmp_path):
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvqz"})
    takes = estimate([molecule("C6H6"), molecule("H2O")], level, None, tmp_path)
    with pytest.raises(PiwslError) as refused:
        check_memory(takes, 2000, None)
    assert str(refused.value).startswith("C6H6 takes about ")
    assert "and 2,000 MB may be used (--mem-mb): give as much, or another level; " in str(refused.value)
    assert "mp2-cbs takes about " in str(refused.value)
    check_memory(takes, round(takes.largest().cost.memory_mb), None)


def test_nothing_is_refused_that_may_go_by_the_disk(tmp_path):
    takes = estimate([molecule("H2O")], slow(1.0), None, tmp_path)
    check_memory(takes, 750, None)
    with pytest.raises(PiwslError, match="H2O takes about 3,000 MB at this level, by estimate, and 749 MB may be used"):
        check_memory(takes, 749, None)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.02, "0.02 s"), (89, "89 s"), (100, "1.7 min"), (5000, "83 min"), (7300, "2 h"), (5e5, "5.8 days")],
)
def test_times_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(("hours", "threads"), [(0.01, 1), (1.9, 1), (2.0, 2), (5.7, 5), (1000.0, 8)])
def test_an_energy_of_hours_is_worth_several_threads(hours, threads):
    assert frame_cost([molecule("H2O")], slow(hours), None).threads() == threads


def test_many_short_energies_are_not():
    assert frame_cost([molecule("H2O")], slow(0.5), "differences").threads() == 1


SECTION = {"geometries": {"file": "given.xyz"}, "level": "x", "training_frames": 2, "test_frames": 1}


def test_jobs_of_large_frames_ask_for_cores_and_for_less_time():
    def job(hours: float, **labelling):
        dataset = ComputedDataset.model_validate(SECTION | {"labelling": labelling})
        return label_batches(dataset, [molecule("H2O")], slow(hours))["training", "00000-00001"]

    one, several = job(6.0, threads=1), job(6.0)
    assert (one.threads, several.threads) == (1, 6)
    assert one.cpu_s == several.cpu_s
    assert one.runtime == 3 * several.runtime, "six threads do the work of three at least"
    assert job(6.0, threads=12).threads == 12


def test_energies_do_not_depend_on_the_number_of_threads():
    level = PySCF.model_validate({"method": "ccsd(t)", "basis": "cc-pvdz"})
    one, two = (
        on_threads(level, threads).single_point(molecule("H2O"), 0, 1, MEMORY_MB, False).energy for threads in (1, 2)
    )
    assert two == pytest.approx(one, abs=1e-8)
    assert on_threads(level, 2).recipe() == level.recipe()


def test_threads_reach_every_term_of_a_sum_and_the_processes_of_a_program():
    orca = {"engine": "orca", "method": "mp2", "basis": "cc-pvdz"}
    sums = parse_level({"engine": "sum", "plus": ["mp2-cbs", orca], "minus": ["gfn2-xtb"]}, "level")
    pyscf, program = on_threads(sums, 3).plus
    assert pyscf.threads == program._threads == 3
    run = Run(MeanFieldKey("cc-pvdz", True), "mp2", "step")
    text = input_text(run, Molecule(molecule("H2O"), 0, 1, 3000, 3), "tight", True, False, "")
    assert "%pal nprocs 3 end" in text
    assert "%maxcore 700" in text
