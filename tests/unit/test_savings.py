"""Options of coupled cluster: their energies are close to the full ones, and a plan says what they save and cost."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from helpers import MEMORY_MB, ROOT, displaced

from piwsl.config import ComputedDataset, Level, parse_level
from piwsl.reference.calculations import run_level
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.planning import label_batches, structures
from piwsl.reference.savings import OPTIONS, savings, with_option

IN_FULL = PySCF.model_validate({"preset": "ccsdt-cbs"})
IN_TRIPLE_ZETA = {
    "stages": [
        {"method": "hf", "bases": ["cc-pvtz", "cc-pvqz"]},
        {"method": "mp2", "bases": ["cc-pvtz", "cc-pvqz"]},
        {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvtz"]},
    ]
}


def dataset(**keys) -> ComputedDataset:
    given = {"molecule": {"name": "CH3CH2OH"}, "level": "x", "training_frames": 100, "test_frames": 10}
    return ComputedDataset.model_validate(given | {"sampling": {"temperatures": [300]}} | keys)


def hours_of(level: Level, *datasets: ComputedDataset) -> float:
    """What labels take where none is stored."""
    batches = [label_batches(each, structures(each), level) for each in datasets]
    return sum(job.cpu_s for jobs in batches for job in jobs.values()) / 3600


def said(level: Level, **keys) -> list[str]:
    return [*savings([dataset(**keys)], level, hours_of(level, dataset(**keys)))]


def test_what_it_saves_stands_beside_what_it_costs():
    (line,) = [line for line in said(IN_FULL) if "0.0003" in line]
    cheaper = with_option(IN_FULL, next(each for each in OPTIONS if each.keys == {"natural_orbitals": 3e-4}))
    whole = hours_of(IN_FULL, dataset())
    saved = whole - hours_of(cheaper, dataset())
    start = f"natural_orbitals: 0.0003 of [CCSD(T) - MP2]/cc-pvdz would save {saved:.2g} of {whole:.2g} CPU hours; "
    assert line == f"{start}energies scatter by 34 to 39 µEh about those in full (1 meV at most)"


def test_the_keys_that_are_said_give_a_level_that_is_cheaper():
    for line in said(parse_level(IN_TRIPLE_ZETA, "level")):
        keys = dict(pair.split(": ") for pair in line.split(" of [")[0].split(", "))
        correction = IN_TRIPLE_ZETA["stages"][2] | {
            "natural_orbitals": float(keys["natural_orbitals"]),
            "density_fitting": keys["density_fitting"] == "true",
        }
        cheaper = parse_level({"stages": [*IN_TRIPLE_ZETA["stages"][:2], correction]}, "level")
        ethanol = molecule("CH3CH2OH")
        whole = parse_level(IN_TRIPLE_ZETA, "level").cost(ethanol, 0, 1, False).cpu_s
        assert cheaper.cost(ethanol, 0, 1, False).cpu_s < 0.5 * whole


@pytest.mark.parametrize(
    "level",
    [
        {"preset": "ccsdt-cbs-tz"},  # has them
        {"preset": "mp2-cbs"},
        {"method": "ccsd(t)", "basis": "cc-pvdz"},  # no correction: its error was not measured
        {"preset": "ccsdt-cbs", "orbitals": "restricted"},
        {"engine": "tblite", "method": "gfn2-xtb"},
    ],
)
def test_nothing_is_said_where_nothing_is_measured(level):
    assert said(parse_level(level, "level")) == []


def test_a_dataset_and_its_test_sets_share_a_level_and_what_one_saves_the_other_may_lose():
    """With natural orbitals forces go by differences: 84 energies of ethanol in place of seven."""
    whole, test_set = dataset(test_force_frames=10), dataset(training_frames=1, test_frames=5)
    assert said(IN_FULL, training_frames=1, test_frames=5) != []
    assert [*savings([whole, test_set], IN_FULL, hours_of(IN_FULL, whole, test_set))] == []
    energies = [dataset(), test_set]
    hours = hours_of(IN_FULL, *energies)
    lines = [*savings(energies, IN_FULL, hours)]
    assert len(lines) == 2
    assert all(f" of {hours:.2g} CPU hours; " in line for line in lines)


def test_nothing_is_said_where_forces_must_be_analytic():
    assert said(IN_FULL, training_frames=1000, test_force_frames=1) != []
    assert said(IN_FULL, training_frames=1000, test_force_frames=1, forces_by="analytic") == []


@pytest.mark.parametrize("left", [0.0, 0.1])
def test_nothing_is_said_where_most_is_stored_for_with_an_option_all_is_computed_anew(left):
    assert [*savings([dataset()], IN_FULL, left * hours_of(IN_FULL, dataset()))] == []


@pytest.mark.parametrize(
    "option", [each for each in OPTIONS if each.basis == "cc-pvdz"], ids=lambda each: each.in_words()
)
def test_energies_with_an_option_scatter_no_more_about_full_ones_than_twice_what_is_said(option):
    stages = [{"method": method, "bases": ["cc-pvdz"], "density_fitting": False} for method in ("hf", "mp2")]
    correction = {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]}
    whole = PySCF.model_validate({"stages": [*stages, correction]})
    errors = []
    for seed in range(4):
        water = displaced("H2O", 0.03, np.random.default_rng(seed))
        found = []
        for level in (whole, with_option(whole, option)):
            energies = {
                part.method: energy for part, energy in run_level(water, level, 0, 1, MEMORY_MB).energies.items()
            }
            found.append(energies["ccsd(t)"] - energies["mp2"])
        errors.append(1e6 * (found[1] - found[0]))
    assert 0.0 < np.std(errors, ddof=1) < 2.0 * max(option.scatter.values())


def test_each_option_says_a_script_that_is_there_and_the_documentation_has_its_figures():
    documented = (ROOT / "docs" / "how-to" / "level-of-theory.md").read_text()
    for option in OPTIONS:
        assert (ROOT / option.source).exists()
        row = f"| {option.basis} | `{option.in_words()}` | "
        (line,) = [line for line in documented.splitlines() if line.startswith(row)]
        for name, scatter in option.scatter.items():
            assert f"{name} {scatter:.0f}" in line
