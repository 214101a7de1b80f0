"""Trained potentials as levels: what they say is theirs, and a file is used only where its content is the one meant."""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces
from helpers import MEMORY_MB, ROOT, displaced, morse_frames

import piwsl
from piwsl.architectures.mace.network import mace_torch
from piwsl.config import ConfigError, Experiment, Level, Run, named_level, parse_level, parse_model, parse_section
from piwsl.data.assemble import import_given
from piwsl.data.cheap_levels import compute_cheap_labels
from piwsl.data.dataset import TEST, Dataset
from piwsl.errors import PiwslError
from piwsl.evaluation.evaluate import evaluate
from piwsl.evaluation.files import predict_file
from piwsl.evaluation.predict import predict
from piwsl.files import file_hash, read_json
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Baseline, BaselineFailure, Committee, Potential, Predictor, load_model, save_model
from piwsl.preflight import check_experiment
from piwsl.reference.checks import check_level
from piwsl.reference.failures import JobFailure
from piwsl.reference.labelling import label_frames
from piwsl.reference.potentials import TRUSTED, trusted_with
from piwsl.structures.frames import FORCES_KEY, read_frames, write_frames
from piwsl.structures.structure import from_atoms
from piwsl.training.run import train_run
from piwsl.workflow.jobs import Jobs

NETWORK: dict[str, Any] = {
    "architecture": "painn", "cutoff": 4.0, "features": 8, "layers": 1, "radial": 6, "dtype": "float64",
    "training": {"steps": 20, "validate_every": 10, "batch_size": 4},
}  # fmt: skip
XTB = named_level("gfn2-xtb")
REFERENCES = {1: -13.6, 8: -2041.0}


def water(count: int = 1, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return [displaced("H2O", 0.05, rng) for _ in range(count)]


def untrained(seed: int = 0, baseline: Baseline | None = None, references=REFERENCES, **keys: Any) -> Potential:
    torch.manual_seed(seed)
    config = parse_model(NETWORK | {"baseline": None if baseline is None else baseline.name} | keys, "model")
    potential = Potential(config, 0.7, references, neighbours=2.0)
    potential.baseline = baseline
    return potential.eval().requires_grad_(False)


def file_of(path: Path, potential: Predictor) -> Path:
    save_model(path, potential, {})
    return path


def ours(path: Path, **keys: Any) -> Level:
    return parse_level({"engine": "piwsl", "model": str(path), **keys}, "levels.base")


def at(level: Level, atoms: Atoms) -> tuple[float, np.ndarray]:
    found = level.single_point(Atoms(atoms.numbers, atoms.positions), 0, 1, memory_mb=MEMORY_MB, forces=True)
    assert found.forces is not None
    return found.energy, found.forces


def plain(folder: Path) -> Predictor:
    return untrained(1)


def single(folder: Path) -> Predictor:
    return untrained(1, dtype="float32")


def committee(folder: Path) -> Predictor:
    return Committee([untrained(seed) for seed in (1, 2, 3)])


def on_xtb(folder: Path) -> Predictor:
    return untrained(1, Baseline("cheap", XTB), references={1: -0.1, 8: 0.3})


def on_another(folder: Path) -> Predictor:
    level = ours(file_of(folder / "lowest.safetensors", untrained(5)))
    return untrained(1, Baseline("lowest", level), references={1: -0.1, 8: 0.3})


def process(folder: Path) -> Predictor:
    return piwsl.train(morse_frames("H2O", 10, forces=True), folder / "gp", {"architecture": "gaussian_process"})


def fitted_pair(folder: Path) -> Predictor:
    found = piwsl.train(morse_frames("H2O", 12), folder / "pair", NETWORK)
    assert found.has_pair_potential
    return found


BASES = (plain, single, committee, on_xtb, on_another, process, fitted_pair)


@pytest.fixture(params=BASES, ids=lambda base: base.__name__)
def base(request, tmp_path) -> Path:
    return file_of(tmp_path / "base.safetensors", request.param(tmp_path))


# What is predicted.


def test_a_level_says_what_its_model_predicts(base):
    check_level(ours(base), {"H", "O"})
    single_precision = load_model(base).dtype == torch.float32
    for atoms, predicted in zip(water(3), piwsl.predict(load_model(base), water(3)), strict=True):
        energy, forces = at(ours(base), atoms)
        # One that is stored in single precision is computed in double.
        tolerance = 1e-4 if single_precision else 1e-6 if load_model(base).baseline else 1e-10
        assert energy == pytest.approx(predicted.get_potential_energy(), abs=tolerance, rel=0)
        np.testing.assert_allclose(forces, predicted.get_forces(), atol=10 * tolerance, rtol=0)


def test_a_prediction_is_that_of_the_base_and_the_correction(base, tmp_path):
    level = ours(base)
    correction = untrained(7, references={1: -0.1, 8: 0.3})
    corrected = load_model(file_of(tmp_path / "c.safetensors", corrected_by(level)))
    # GFN2-xTB does not give the same number twice.
    tolerance = 1e-6 if "lowest" not in str(base) and load_model(base).baseline else 1e-10
    for atoms in water(3):
        found = predict(corrected, [from_atoms(atoms)])
        own = predict(correction, [from_atoms(atoms)])
        energy, forces = at(level, atoms)
        assert found.energy[0] == pytest.approx(own.energy[0] + energy, abs=tolerance, rel=0)
        np.testing.assert_allclose(found.forces[0], own.forces[0] + forces, atol=10 * tolerance, rtol=0)


def corrected_by(level: Level, name: str = "base") -> Potential:
    return untrained(7, Baseline(name, level), references={1: -0.1, 8: 0.3})


@pytest.mark.parametrize("make", [plain, single, committee, fitted_pair, process], ids=lambda base: base.__name__)
def test_forces_of_the_sum_are_minus_the_difference_of_its_energy(make, tmp_path):
    level = ours(file_of(tmp_path / "base.safetensors", make(tmp_path)))
    atoms = water()[0]
    atoms.calc = PotentialCalculator(corrected_by(level))
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6, rtol=0)


def test_charge_changes_nothing_but_what_a_baseline_beneath_says_of_it(tmp_path):
    level = ours(file_of(tmp_path / "base.safetensors", plain(tmp_path)))
    assert level.single_point(molecule("H2O"), 1, 2, MEMORY_MB, True).energy == at(level, molecule("H2O"))[0]
    above = ours(file_of(tmp_path / "above.safetensors", on_xtb(tmp_path)))
    assert above.single_point(molecule("H2O"), 1, 2, MEMORY_MB, True).energy > at(above, molecule("H2O"))[0] + 5


def test_a_model_is_read_once(tmp_path):
    path = file_of(tmp_path / "base.safetensors", plain(tmp_path))
    level = ours(path)
    before = at(level, water()[0])[0]
    path.unlink()
    assert at(parse_level(level.plain(), "again"), water()[0])[0] == before


def test_costs_are_of_all_that_is_computed(tmp_path):
    costs = [
        ours(file_of(tmp_path / f"{make.__name__}.safetensors", make(tmp_path))).cost(molecule("H2O"), 0, 1, True)
        for make in (plain, committee, on_another)
    ]
    assert costs[1].cpu_s == pytest.approx(3 * costs[0].cpu_s)
    assert costs[2].cpu_s == pytest.approx(2 * costs[0].cpu_s)


def test_words_name_architecture_and_file(tmp_path):
    path = file_of(tmp_path / "base.safetensors", plain(tmp_path))
    assert str(ours(path)) == f"PaiNN of base.safetensors ({file_hash(path)[:8]})"
    assert str(ours(tmp_path / "none.safetensors")) == "potential of none.safetensors"


# Which file it is.


def test_finished_energies_are_found_by_the_content_of_the_file_wherever_it_lies(tmp_path):
    path = file_of(tmp_path / "base.safetensors", plain(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.copy(path, tmp_path / "elsewhere" / "renamed.safetensors"))
    other = file_of(tmp_path / "other.safetensors", untrained(2))
    stored = [
        label_frames(water(), ours(each), tmp_path / "store", "analytic", MEMORY_MB, lambda line: None)[1][0]["stored"]
        for each in (path, moved, other)
    ]
    assert stored == [False, True, False]


def test_a_model_keeps_the_content_of_its_base_and_finds_it_at_its_path(tmp_path):
    level = ours(file_of(tmp_path / "base.safetensors", plain(tmp_path)))
    assert level.plain()["sha256"] == file_hash(tmp_path / "base.safetensors")
    assert load_model(file_of(tmp_path / "c.safetensors", corrected_by(level))).baseline == Baseline("base", level)


def test_a_base_is_found_beside_the_model_that_corrects_it(tmp_path, monkeypatch):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    monkeypatch.chdir(first)
    corrected = corrected_by(ours(file_of(Path("base.safetensors"), plain(first))))
    expected = predict(corrected, [from_atoms(water()[0])]).energy
    file_of(Path("c.safetensors"), corrected)
    for name in ("base.safetensors", "c.safetensors"):
        (first / name).rename(second / name)
    monkeypatch.chdir(third)
    # What lies at the path that was said, and is another file, is passed over.
    file_of(Path("base.safetensors"), untrained(2))
    assert predict(load_model(second / "c.safetensors"), [from_atoms(water()[0])]).energy == expected


def refusal(path: Path) -> str:
    with pytest.raises(PiwslError) as caught:
        load_model(path)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 200 + len(str(path))
    return line


def test_a_model_is_refused_whose_base_is_another_file_now(tmp_path):
    path = file_of(tmp_path / "base.safetensors", plain(tmp_path))
    corrected = file_of(tmp_path / "c.safetensors", corrected_by(ours(path)))
    file_of(path, untrained(2))
    line = refusal(corrected)
    assert "baseline 'base'" in line
    assert f"sha256: base.safetensors has {file_hash(path)}, not " in line


def test_a_model_is_refused_whose_base_is_not_there(tmp_path):
    path = file_of(tmp_path / "base.safetensors", plain(tmp_path))
    corrected = file_of(tmp_path / "c.safetensors", corrected_by(ours(path)))
    path.unlink()
    assert "base.safetensors; put it there, or beside the model that corrects it" in refusal(corrected)


def test_a_file_that_is_replaced_after_the_config_was_read_stops_the_job(tmp_path):
    path = file_of(tmp_path / "base.safetensors", plain(tmp_path))
    level = ours(path)
    file_of(path, untrained(2))
    with pytest.raises(JobFailure, match=r"sha256: base\.safetensors has"):
        label_frames(water(), level, tmp_path / "store", "analytic", MEMORY_MB, lambda line: None)
    assert not list((tmp_path / "store").rglob("*.json"))


def test_a_file_that_comes_after_the_config_was_read_is_not_used(tmp_path):
    level = ours(tmp_path / "base.safetensors")
    file_of(tmp_path / "base.safetensors", plain(tmp_path))
    assert "was not there when the level was read; start again" in str(level.problem({"H"}))


PROBLEMS = {
    "elements": (untrained, {}, "model: base.safetensors was not trained on C, N; it knows H, O"),
    "another hash": (untrained, {"sha256": "AB" * 32}, "not abababab...; check where it comes from"),
    "no model": (lambda: None, {}, "not a model file of piwsl"),
}


@pytest.mark.parametrize(("make", "keys", "complaint"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, monkeypatch, make, keys, complaint):
    monkeypatch.chdir(tmp_path)
    path, potential = Path("base.safetensors"), make()
    path.write_text("no model") if potential is None else file_of(path, potential)
    problem = ours(path, **keys).problem({"H", "C", "N"})
    assert problem is not None
    assert complaint in problem
    assert len(problem) <= 200
    assert problem.isprintable()


@pytest.mark.parametrize("said", ["abc", "g" * 64, 12], ids=["short", "no digits", "number"])
def test_a_hash_is_64_hexadecimal_digits(tmp_path, said):
    with pytest.raises(ConfigError, match="sha256"):
        ours(tmp_path / "base.safetensors", sha256=said)


# Geometries that a base says nothing of.


def test_a_molecule_that_the_base_does_not_know_fails_alone(tmp_path):
    level = ours(file_of(tmp_path / "base.safetensors", process(tmp_path)))
    frames = [molecule("H2O"), molecule("H2O2")]
    labelled, records = label_frames(frames, level, tmp_path / "store", "analytic", MEMORY_MB, lambda line: None)
    assert len(labelled) == 1
    assert (records[1]["step"], "knows one molecule" in records[1]["reason"]) == ("piwsl", True)
    with pytest.raises(BaselineFailure, match=r"frame 1: baseline 'base' .*knows one molecule"):
        predict(corrected_by(level), [from_atoms(atoms) for atoms in frames])


def test_a_geometry_that_the_level_beneath_the_base_gives_up_on_fails_alone(tmp_path):
    """Chlorine, torn apart, at no temperature of the electrons."""
    cold = Baseline("cold", parse_level({"engine": "tblite", "electronic_temperature": 1.0}, "cold"))
    level = ours(file_of(tmp_path / "base.safetensors", untrained(1, cold, {17: 0.0})))
    top = untrained(2, Baseline("base", level), {17: 0.0})
    frames = [Atoms("Cl2", [[0, 0, 0], [0, 0, distance]]) for distance in (2.0, 4.0)]
    with pytest.raises(BaselineFailure, match=r"frame 1: baseline 'base' .*SCF not converged"):
        predict(top, [from_atoms(atoms) for atoms in frames])


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_frame_that_the_baseline_gives_up_on_is_left_out_of_a_file_of_predictions(tmp_path, capsys, position):
    """Chlorine, torn apart, at no temperature of the electrons; first, in between and last."""
    cold = Baseline("cold", parse_level({"engine": "tblite", "electronic_temperature": 1.0}, "cold"))
    distances = [2.0, 2.1, 2.2]
    distances.insert(position, 4.0)
    frames = [Atoms("Cl2", [[0, 0, 0], [0, 0, distance]]) for distance in distances]
    write_frames(tmp_path / "in.xyz", frames)
    model = file_of(tmp_path / "model.safetensors", untrained(1, cold, {17: 0.0}))
    with pytest.raises(PiwslError, match=r"in\.xyz: 1 frames are left out; the lines above say why"):
        predict_file(model, tmp_path / "in.xyz", tmp_path / "out.xyz")
    said = capsys.readouterr().out
    assert f"in.xyz: frame {position} is left out: baseline 'cold' (GFN2-xTB): " in said
    assert f"3 of 4 frames: {tmp_path / 'out.xyz'}" in said
    written = ase.io.read(tmp_path / "out.xyz", index=":")
    assert [atoms.get_distance(0, 1) for atoms in written] == [2.0, 2.1, 2.2]
    assert all(atoms.calc.results["forces"].shape == (2, 3) for atoms in written)


# MACE.


@pytest.fixture(scope="module")
def of_mace(tmp_path_factory) -> Path:
    """A small model as mace_run_train writes it, with two heads in a second file; both in single precision."""
    folder = tmp_path_factory.mktemp("mace")
    for name, heads in (("mace.model", None), ("heads.model", ["pt_head", "default"])):
        torch.save(small_mace(heads), folder / name)
    return folder / "mace.model"


def small_mace(heads: list[str] | None = None) -> torch.nn.Module:
    library = mace_torch()
    block = library.modules.RealAgnosticResidualInteractionBlock
    count = 1 if heads is None else len(heads)
    torch.manual_seed(0)
    return library.modules.ScaleShiftMACE(
        atomic_inter_scale=[1.7] * count, atomic_inter_shift=[0.2, 0.1][:count], r_max=4.0, num_bessel=6,
        num_polynomial_cutoff=5, max_ell=2, interaction_cls=block, interaction_cls_first=block, num_interactions=2,
        num_elements=2, hidden_irreps=library.o3.Irreps("4x0e+4x1o"), MLP_irreps=library.o3.Irreps("16x0e"),
        atomic_energies=np.array([[-13.6, -2041.0], [-12.0, -2000.0]][:count]), avg_num_neighbors=2.0,
        atomic_numbers=[1, 8], correlation=2, gate=torch.nn.functional.silu, heads=heads,
    )  # fmt: skip


def theirs(path: Path, **keys: Any) -> Level:
    said = {"engine": "mace", "model": str(path), "sha256": file_hash(path)} | keys
    return parse_level(said, "levels.mp")


def by_mace(path: Path, frames: list[Atoms], head: str | None = None) -> list[tuple[float, np.ndarray]]:
    """Return what mace-torch's own calculator says, in double precision."""
    mace_torch()
    from mace.calculators import MACECalculator

    said = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = torch.load(path, weights_only=False)
            calculator = MACECalculator(models=network, default_dtype="float64", head=head)
            torch.set_default_dtype(torch.float64)
            for atoms in frames:
                known = Atoms(atoms.numbers, atoms.positions, calculator=calculator)
                said.append((known.get_potential_energy(), known.get_forces()))
    finally:
        torch.set_default_dtype(torch.float32)
    return said


@pytest.mark.parametrize(
    ("name", "head"),
    [("mace.model", None), ("heads.model", None), ("heads.model", "pt_head"), ("heads.model", "default")],
)
def test_energies_and_forces_are_those_of_maces_calculator(of_mace, name, head):
    path = of_mace.with_name(name)
    frames = [*water(3), molecule("H2O2"), molecule("O"), molecule("H2")]
    level = theirs(path, head=head)
    check_level(level, {"H", "O"})
    for atoms, (energy, forces) in zip(frames, by_mace(path, frames, head), strict=True):
        found = at(level, atoms)
        assert found[0] == pytest.approx(energy, abs=1e-9, rel=0)
        np.testing.assert_allclose(found[1], forces, atol=1e-9)
    assert str(level).startswith("MACE")


def test_a_mace_is_corrected(of_mace, tmp_path, monkeypatch):
    level = theirs(of_mace)
    monkeypatch.setenv(TRUSTED, trusted_with([level]))
    corrected = load_model(file_of(tmp_path / "c.safetensors", corrected_by(level, "mp")))
    own = untrained(7, references={1: -0.1, 8: 0.3})
    (atoms,) = water()
    found, alone = (predict(potential, [from_atoms(atoms)]) for potential in (corrected, own))
    ((energy, forces),) = by_mace(of_mace, [atoms])
    assert found.energy[0] == pytest.approx(alone.energy[0] + energy, abs=1e-9, rel=0)
    np.testing.assert_allclose(found.forces[0], alone.forces[0] + forces, atol=1e-9)


def test_the_process_stays_as_it_was(of_mace, monkeypatch):
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    threads = torch.get_num_threads()
    at(theirs(of_mace), water()[0])
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads


def test_heads_are_named_where_there_are_several(of_mace, tmp_path):
    level = theirs(of_mace.with_name("heads.model"), head="defaults")
    assert level.problem({"H"}) == "head: no 'defaults'; did you mean 'default'?"
    torch.save(small_mace(["a_head", "b_head"]), tmp_path / "two.model")
    assert theirs(tmp_path / "two.model").problem({"H"}) == "head: not said; known are a_head, b_head"


class Burglar:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, left: Path) -> None:
        self.left = left

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.left,))


@pytest.fixture
def burglar(tmp_path) -> tuple[Path, Path]:
    """A file that runs code, and what is there once it ran."""
    left = tmp_path / "left"
    torch.save(Burglar(left), tmp_path / "mace.model")
    return tmp_path / "mace.model", left


def test_a_pickle_is_opened_only_where_its_hash_was_said(burglar):
    path, left = burglar
    with pytest.raises(ConfigError, match=r"sha256: this key is missing; the file runs code when it is opened"):
        parse_level({"engine": "mace", "model": str(path)}, "levels.mp")
    level = theirs(path, sha256="0" * 64)
    problem = level.problem({"H"})
    assert problem == f"sha256: mace.model has {file_hash(path)}, not 00000000...; check where it comes from"
    with pytest.raises(JobFailure):
        at(level, water()[0])
    str(level)
    assert not left.exists()
    # Who says the hash has it run: that this file would have done something shows that the others were not opened.
    problem = theirs(path).problem({"H"})
    assert problem is not None
    assert problem.startswith("model: mace.model is ")
    assert left.exists()


def test_a_model_from_elsewhere_does_not_open_a_pickle_that_it_brings_along(burglar, tmp_path, monkeypatch):
    path, left = burglar
    monkeypatch.delenv(TRUSTED, raising=False)
    corrected = file_of(tmp_path / "c.safetensors", corrected_by(theirs(path), "mp"))
    line = refusal(corrected)
    assert "baseline 'mp': mace.model runs code when it is opened, and a model asks for it" in line
    assert line.endswith(f"{TRUSTED}={file_hash(path)}")
    assert not left.exists()


def test_jobs_of_an_experiment_may_open_what_its_config_vouches_for(of_mace, monkeypatch):
    monkeypatch.setenv(TRUSTED, "ab cd")
    assert trusted_with([XTB, theirs(of_mace)]).split() == sorted(["ab", "cd", file_hash(of_mace)])
    assert "os.environ[TRUSTED] = trusted_with(experiment.levels.values())" in (ROOT / "Snakefile").read_text()


@pytest.mark.parametrize("content", ["text", "tensors"])
def test_what_is_no_model_of_mace_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "mace.model"
    path.write_text("no model") if content == "text" else torch.save({"a": torch.ones(2)}, path)
    problem = theirs(path).problem({"H"})
    assert problem is not None
    assert problem.startswith("model: mace.model is ")
    assert len(problem) <= 200
    assert problem.isprintable()


def test_elements_that_a_mace_does_not_know_are_named(of_mace):
    assert theirs(of_mace).problem({"H", "F"}) == "model: mace.model was not trained on F; it knows H, O"


# An experiment.


def experiment(level: dict[str, Any]) -> Experiment:
    config = {
        "experiment": "difference",
        "levels": {"base": level},
        "datasets": {"mine": {"file": "mine.xyz", "test_frames": 4, "cheap_levels": ["base"]}},
        "models": {"painn": NETWORK | {"baseline": "base"}},
        "losses": {"supervised": {}},
        "sizes": [8],
        "seeds": [0],
    }
    return parse_section(Experiment, config, "config.yaml")


@pytest.mark.parametrize("engine", ["piwsl", "mace"])
def test_an_experiment_with_a_potential_as_cheap_level_and_baseline(tmp_path, monkeypatch, of_mace, engine):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("mine.xyz"), morse_frames("H2O", 14, forces=True))
    level: dict[str, Any] = {"engine": "piwsl", "model": "base.safetensors"}
    if engine == "mace":
        shutil.copy(of_mace, "mace.model")
        level = {"engine": "mace", "model": "mace.model", "sha256": file_hash(of_mace)}
    else:
        file_of(Path("base.safetensors"), plain(tmp_path))
    parsed = experiment(level)
    check_experiment(parsed, "config.yaml")
    monkeypatch.setenv(TRUSTED, trusted_with(parsed.levels.values()))
    jobs = Jobs(parsed, ROOT / "workflow" / "scripts")
    base = parse_level(jobs.plain_level("base"), "base")
    labels = compute_cheap_labels("base", base, read_frames("mine.xyz"), Path("store"), 1000)
    import_given(jobs.given["mine"], Path("d.h5"), cheap=[labels])
    with Dataset(Path("d.h5")) as made:
        (structure,) = made.structures(made.indices(TEST)[:1])
    energy, forces = at(parsed.levels["base"], structure.atoms())
    assert structure.at_level("base").energy == pytest.approx(energy, abs=1e-8, rel=0)
    np.testing.assert_allclose(structure.at_level("base").forces, forces, atol=1e-6)
    ((name, said),) = jobs.baseline("painn").items()
    run = Run(dataset="mine", model="painn", loss="supervised", size=8, seed=0)
    baseline = Baseline(name, parse_level(said, name))
    train_run(
        Path("d.h5"), run, parsed.models["painn"], parsed.losses["supervised"], Path("c.safetensors"),
        Path("history.csv"), baseline=baseline,
    )  # fmt: skip
    evaluate(
        Path("d.h5"), run, Path("c.safetensors"), Path("errors.json"), Path("predictions.parquet"), Path("worst.xyz")
    )
    assert np.isfinite(read_json(Path("errors.json"))["energy_mae_meV"])
    assert replace(load_model("c.safetensors").baseline, scale=1.0) == baseline


def test_a_base_that_changes_is_another_parameter_of_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    for seed in (1, 1, 2):
        file_of(Path("base.safetensors"), untrained(seed))
        jobs = Jobs(experiment({"engine": "piwsl", "model": "base.safetensors"}), ROOT / "workflow" / "scripts")
        found.append((jobs.recipe("base"), jobs.baseline("painn")))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
    assert found[0][1] != found[2][1]


WRONG = {
    "missing": ({"engine": "piwsl", "model": "none.safetensors"}, "levels.base: model: no file none.safetensors; put"),
    "elements": ({"engine": "piwsl", "model": "base.safetensors"}, "levels.base: model: base.safetensors was not"),
}


@pytest.mark.parametrize(("level", "complaint"), WRONG.values(), ids=WRONG)
def test_the_check_of_an_experiment_says_what_is_wrong_with_a_base(tmp_path, monkeypatch, level, complaint):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("mine.xyz"), morse_frames("CH4", 14))
    file_of(Path("base.safetensors"), plain(tmp_path))
    with pytest.raises(ConfigError) as caught:
        check_experiment(experiment(level), "config.yaml")
    assert str(caught.value).startswith(f"config.yaml: {complaint}")
    assert len(str(caught.value)) <= 200


def test_a_potential_labels_molecules_too(tmp_path):
    level = ours(file_of(tmp_path / "base.safetensors", plain(tmp_path)))
    # A network that is not trained is rough on the scale of the differences' step.
    for method, tolerance in (("analytic", 1e-8), ("differences", 5e-4)):
        (found,), _ = label_frames(water(), level, tmp_path / method, method, MEMORY_MB, lambda line: None)
        np.testing.assert_allclose(found.arrays[FORCES_KEY], at(level, water()[0])[1], atol=tolerance)
