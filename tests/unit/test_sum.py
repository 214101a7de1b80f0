"""Levels that are sums of levels."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from helpers import MEMORY_MB, ROOT, displaced

from piwsl.config import ConfigError, Level, SinglePoint, parse_level
from piwsl.errors import PiwslError
from piwsl.files import read_json, write_json
from piwsl.reference.engines.sum import Sum
from piwsl.reference.failures import FrameFailure
from piwsl.reference.forces import check_forces
from piwsl.reference.labelling import label_frames
from piwsl.reference.recipe import level_key

HF, MP2 = {"method": "hf", "basis": "sto-3g", "density_fitting": False}, {
    "method": "mp2", "basis": "sto-3g", "density_fitting": False
}  # fmt: skip
GFN2, GFN1 = {"engine": "tblite"}, {"engine": "tblite", "method": "gfn1-xtb"}


def level(plus, minus) -> Level:
    return parse_level({"engine": "sum", "plus": plus, "minus": minus}, "level")


def point(one, atoms: Atoms, forces: bool = False, multiplicity: int = 1) -> SinglePoint:
    return one.single_point(atoms.copy(), 0, multiplicity, MEMORY_MB, forces)


def test_energy_and_forces_are_the_sum_of_the_terms():
    atoms = displaced("H2O", 0.05, np.random.default_rng(0))
    hf, gfn2, gfn1 = (point(parse_level(each, "level"), atoms, forces=True) for each in (HF, GFN2, GFN1))

    found = point(level([HF, GFN2], [GFN1]), atoms, forces=True)

    assert found.energy == pytest.approx(hf.energy + gfn2.energy - gfn1.energy, abs=1e-9)
    np.testing.assert_allclose(found.forces, hf.forces + gfn2.forces - gfn1.forces, atol=1e-7)


def test_a_level_corrected_by_itself_is_the_level():
    atoms = molecule("H2O")
    assert point(level([MP2, HF], [HF]), atoms).energy == pytest.approx(
        point(parse_level(MP2, "level"), atoms).energy, abs=1e-8
    )


def test_forces_by_differences_are_those_of_the_terms_even_of_a_radical(tmp_path):
    sums = level([HF | {"method": "hf"}, GFN2], [GFN1])
    atoms = displaced("OH", 0.02, np.random.default_rng(1))
    atoms.info["multiplicity"] = 2
    frames = [
        label_frames([atoms], sums, tmp_path / how, how, MEMORY_MB, progress=lambda line: None)[0][0]
        for how in ("analytic", "differences")
    ]
    np.testing.assert_allclose(*(frame.arrays["REF_forces"] for frame in frames), atol=5e-4)


def test_the_correction_of_a_large_molecule_by_a_program_that_plays_orca(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "toys")
    import orca

    monkeypatch.setenv("PIWSL_ORCA", str(orca.installed(tmp_path)))
    local = {"engine": "orca", "method": "dlpno-ccsd(t)", "basis": "cc-pvdz"}
    mp2 = {"engine": "orca", "method": "mp2", "basis": "cc-pvdz"}
    base = {"method": "mp2", "basis": "cc-pvdz"}
    corrected = level([base, local], [mp2])

    frames, (record,) = label_frames(
        [molecule("H2O")], corrected, tmp_path, None, MEMORY_MB, progress=lambda line: None
    )

    expected = [point(parse_level(each, "level"), molecule("H2O")).energy for each in (base, local, mp2)]
    assert frames[0].info["REF_energy"] == pytest.approx(expected[0] + expected[1] - expected[2], abs=1e-7)
    assert [term["energy_eV"] for term in record["terms"]] == pytest.approx(expected, abs=1e-7)
    assert record["t1_diagnostic"] == 0.0123
    assert {"pyscf", "orca"} <= record["versions"].keys()
    with pytest.raises(PiwslError, match="no forces by differences"):
        check_forces(corrected, {1}, "differences")


def test_a_preset_is_a_term_by_its_name():
    sums = level(["mp2-cbs", MP2], [HF])
    assert level_key(sums) == level_key(level([{"preset": "mp2-cbs"}, MP2], [HF]))
    assert str(sums) == (
        f"{parse_level({'preset': 'mp2-cbs'}, 'level')} + [HF/sto-3g + MP2/sto-3g, frozen core] - [HF/sto-3g]"
    )


def test_energies_are_kept_under_what_the_terms_are_in_whatever_order():
    assert level_key(level([HF, GFN2], [GFN1])) == level_key(level([GFN2, HF], [GFN1]))
    assert level_key(level([HF, GFN2], [GFN1])) != level_key(level([HF, GFN1], [GFN2]))
    assert level_key(level([HF, GFN2], [GFN1])) != level_key(parse_level(HF, "level"))


def test_a_sum_is_read_again_as_it_was_written():
    sums = level([HF, "gfn2-xtb"], [GFN1])
    assert parse_level(sums.plain(), "level") == sums
    assert parse_level(sums.beyond_defaults(), "level") == sums


REFUSED = [
    ([HF, GFN2], [GFN1, GFN1], "plus has 2 levels and minus 2; each is a total energy: give one more of plus"),
    ([HF, "mp2-cb"], [GFN1], "plus.1: no level 'mp2-cb'; did you mean 'mp2-cbs'?"),
    ([HF, {"engine": "tblit"}], [GFN1], "plus.1.engine: no engine 'tblit'; did you mean 'tblite'?"),
    ([HF, GFN2], [{"engine": "tblite", "metod": "x"}], "minus.0: unknown key 'metod'; did you mean 'method'?"),
    ([HF, GFN2], [3], "minus.0"),
]


@pytest.mark.parametrize(("plus", "minus", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_sums_that_are_none_are_refused(plus, minus, said):
    with pytest.raises(ConfigError) as refused:
        level(plus, minus)
    assert said in str(refused.value)


def test_a_stored_sum_whose_terms_do_not_add_up_is_computed_again(tmp_path):
    sums = level([HF, GFN2], [GFN1])

    def record():
        return label_frames([molecule("H2")], sums, tmp_path, None, MEMORY_MB, progress=lambda line: None)[1][0]

    first = record()
    assert record()["stored"]
    (path,) = (path for path in tmp_path.rglob("*.json") if path.name != "level.json")
    kept = read_json(path)
    kept["terms"][1]["energy_eV"] += 0.1
    write_json(path, kept)
    again = record()
    assert not again["stored"]
    assert again["energy_eV"] == pytest.approx(first["energy_eV"], abs=1e-7)


def test_what_a_term_lacks_or_doubts_is_said():
    assert level([HF, GFN2], [GFN1]).problem({"H", "U"}) is not None
    doubted = level([{"method": "ccsd", "basis": "sto-3g", "max_t1": 1e-6, "doubtful": "fail"}, GFN2], [GFN1])
    found = point(doubted, molecule("H2O"))
    assert "T1 diagnostic" in doubted.doubt({**found.notes, "multiplicity": 1})
    assert doubted.fails_doubtful
    assert not level([HF, GFN2], [GFN1]).fails_doubtful
    fitted = {"method": "ccsd", "basis": "cc-pvdz", "density_fitting": True}
    assert level([fitted, GFN2], [GFN1]).analytic_problem(1) is not None


def test_a_term_says_which_elements_have_other_bases():
    lithium = HF | {"basis": "cc-pvdz", "density_fitting": True}
    assert level([lithium, GFN2], [GFN1]).remark({"H", "Li"}) == "def2-universal-jkfit for Li in cc-pvdz-jkfit"
    assert level([HF, GFN2], [GFN1]).remark({"H", "Li"}) is None


def test_terms_of_one_name_may_have_other_orbitals_or_bases():
    restricted, larger = HF | {"orbitals": "restricted"}, HF | {"element_bases": {"sto-3g": {"O": "6-31g"}}}
    radical = displaced("OH", 0.02, np.random.default_rng(1))
    for other in (restricted, larger):
        alone = point(parse_level(other, "level"), radical, multiplicity=2)
        assert alone.energy != pytest.approx(point(parse_level(HF, "level"), radical, multiplicity=2).energy, abs=1e-3)
        found = point(level([other, HF], [HF]), radical, multiplicity=2)
        assert found.energy == pytest.approx(alone.energy, abs=1e-6)


def test_two_terms_of_one_engine_on_two_states_fail_the_frame():
    one, other = (SinglePoint(energy, notes={"components_Eh": {"df-hf/x": energy}}) for energy in (-1.0, -1.1))
    sums: Sum = level([HF, HF], [HF])
    with pytest.raises(FrameFailure, match=r"two terms of pyscf found -2\.72 eV apart: they are of two states"):
        sums._added([one, one, other])
