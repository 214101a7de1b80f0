"""Frames with an energy, forces or both in one set: each is learned from, validated and tested by what it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ase import Atoms
from helpers import CONSERVATIVE, morse_frames, plain_experiment
from safetensors.torch import load_file
from typer.testing import CliRunner

import piwsl
from piwsl.architectures.gaussian_process.fit import fit
from piwsl.architectures.painn import PaiNN
from piwsl.cli import app
from piwsl.config import GivenDataset, Loss, Run, Training
from piwsl.data.assemble import import_given
from piwsl.data.batch import collate, graph
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.data.given import read_files, summary
from piwsl.data.plausibility import findings
from piwsl.data.survey import Formulas, survey_of
from piwsl.data.test_sets import write_test_set
from piwsl.data.views import held, stored
from piwsl.errors import PiwslError
from piwsl.evaluation.breakdown import Breakdown, WorstFrames
from piwsl.evaluation.evaluate import evaluate
from piwsl.evaluation.metrics import ErrorSummary, SpreadSummary
from piwsl.evaluation.predictions import Predictions, read_predictions
from piwsl.files import read_json
from piwsl.loss_terms.pitc import PITC
from piwsl.losses import displacements_of_step, training_loss
from piwsl.models import build_potential, fit_pair_potential, load_model
from piwsl.report.sections.calibration import spread_of
from piwsl.report.sections.errors import labelled_in_words
from piwsl.report.sections.parity import of_run, pairs_of
from piwsl.report.sections.scans import scanned_of
from piwsl.report.sections.worst_frames import errors_in_words
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, label, read_frames, write_frames
from piwsl.structures.labels import REFERENCE
from piwsl.structures.structure import from_atoms
from piwsl.training.frames import Names, TrainingFrames
from piwsl.training.module import PotentialModule
from piwsl.training.run import train_run
from piwsl.training.validation import HeldOut, ValidationErrors

RUN = Run(dataset="d", model="m", loss="l", size=10, seed=0)
SMALL = PaiNN(
    architecture="painn", cutoff=4.0, features=8, layers=1, radial=4, pair_potential=False, dtype="float64",
    training=Training(steps=12, validate_every=4, batch_size=2, learning_rate=0.01),
)  # fmt: skip


def without(quantity: str, frames: list[Atoms]) -> list[Atoms]:
    """Return frames without their energy, or without their forces."""
    for atoms in frames:
        del (atoms.info if quantity == "energy" else atoms.arrays)[f"REF_{quantity}"]
    return frames


def mixed(name: str = "H2O", of_each: int = 4, seed: int = 0) -> list[Atoms]:
    """Return frames with forces alone, then such with an energy alone, then such with both, equally many of each."""
    frames = morse_frames(name, 3 * of_each, seed=seed, forces=True)
    without("energy", frames[:of_each])
    without("forces", frames[of_each : 2 * of_each])
    return frames


@pytest.fixture(scope="module")
def structures():
    return [from_atoms(atoms) for atoms in [*mixed("H2O", 1), *mixed("NH3", 1, seed=1)]]


@pytest.fixture(scope="module")
def potential(structures):
    torch.manual_seed(0)
    return build_potential(CONSERVATIVE["painn"], [each for each in structures if np.isfinite(each.energy)])


@pytest.fixture(scope="module")
def batch(structures):
    return collate([graph(each, 4.5, torch.float64) for each in structures])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    write_dataset(path, {TRAINING: mixed(), TEST: mixed(seed=5)})
    return path


def trained_in(folder: Path, dataset: Path, model: PaiNN = SMALL) -> Path:
    folder.mkdir(exist_ok=True)
    train_run(dataset, RUN, model, Loss(), folder / "model.safetensors", folder / "history.csv")
    return folder / "model.safetensors"


def weights_of(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    return trained_in(tmp_path_factory.mktemp("whole"), dataset)


def gradient_of(total: torch.Tensor, potential) -> torch.Tensor:
    own = [each for each in potential.parameters() if each.requires_grad]
    found = torch.autograd.grad(total, own, allow_unused=True)
    flat = [each.new_zeros(each.numel()) if g is None else g.flatten() for each, g in zip(own, found, strict=True)]
    return torch.cat(flat)


# Loss


@pytest.mark.parametrize("weights", [(2.0, 3.0), (1.0, 0.0), (0.0, 1.0)])
def test_loss_and_gradient_are_those_of_the_labels_that_are_there(potential, batch, structures, weights):
    of_energy, of_forces = weights
    loss = Loss(energy=of_energy, forces=of_forces)
    total, terms = training_loss(potential, batch, loss, [], loss.factors(0))
    energies, forces = [], []
    for structure in structures:
        energy, force = potential.energy_and_forces(graph(structure, 4.5, torch.float64), create_graph=True)
        if np.isfinite(structure.energy):
            energies.append((energy[0] - structure.energy) / len(structure.numbers))
        if structure.forces is not None:
            forces.append((force - torch.tensor(structure.forces)).flatten())
    assert (len(energies), len(forces)) == (4, 4)
    by_hand = {"energy": torch.stack(energies).square().mean(), "forces": torch.cat(forces).square().mean()}
    expected = of_energy * by_hand["energy"] + of_forces * by_hand["forces"]
    torch.testing.assert_close(total, expected)
    for name, term in terms.items():
        torch.testing.assert_close(term, by_hand[name].detach())
    torch.testing.assert_close(gradient_of(total, potential), gradient_of(expected, potential))


def test_a_step_without_any_energy_has_no_energy_term_and_the_gradient_of_forces(potential, structures):
    alone = collate([graph(structures[place], 4.5, torch.float64) for place in (0, 3)])
    assert alone.energy.isnan().all()
    both, only = Loss(energy=5.0, forces=2.0), Loss(energy=0.0, forces=2.0)
    total, terms = training_loss(potential, alone, both, [], both.factors(0))
    assert terms["energy"] == 0
    expected, _ = training_loss(potential, alone, only, [], only.factors(0))
    gradient = gradient_of(total, potential)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient, gradient_of(expected, potential))


@pytest.mark.parametrize(("anchor", "places"), [("model", range(6)), ("label", (1, 2, 4, 5)), ("pseudo-label", (2, 5))])
def test_a_weak_term_passes_over_the_frames_whose_labels_it_needs(potential, batch, structures, anchor, places):
    loss = Loss(pitc=PITC(weight=1.0, anchor=anchor), displacement=0.01)
    drawn = displacements_of_step(potential, batch, loss, seed=0, step=0)
    found = training_loss(potential, batch, loss, drawn, {"pitc": 1.0})[1]["pitc"]
    atoms = torch.isin(batch.structure_index, torch.tensor([*places]))
    chosen = collate([graph(structures[place], 4.5, torch.float64) for place in places])
    expected = training_loss(potential, chosen, loss, [each[atoms] for each in drawn], {"pitc": 1.0})[1]["pitc"]
    assert found > 0
    torch.testing.assert_close(found, expected)


# Training


def test_a_training_on_both_kinds_that_was_stopped_goes_on_to_the_same_weights(dataset, trained, tmp_path, monkeypatch):
    step = PotentialModule.training_step

    def stopped(self, batch, index):
        if self.global_step == 6:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(PotentialModule, "training_step", stopped)
    with pytest.raises(BaseException):  # noqa: B017, PT011  # whatever becomes of it on the way
        trained_in(tmp_path, dataset)
    assert [*(tmp_path / "checkpoints").glob("*.ckpt")]
    monkeypatch.undo()
    assert weights_of(trained_in(tmp_path, dataset)) == weights_of(trained)
    assert (tmp_path / "history.csv").read_text() == trained.with_name("history.csv").read_text()
    history = pd.read_csv(tmp_path / "history.csv")
    assert history[["training_energy", "training_forces", "validation_criterion"]].notna().all(axis=None)


def test_references_are_of_the_frames_with_energies_wherever_these_stand(tmp_path, monkeypatch):
    """The first ones, which references are fitted to otherwise, have none."""
    monkeypatch.setattr("piwsl.training.module.REFIT_STRUCTURES", 2)
    monkeypatch.setattr("piwsl.training.run.MOST_FITTED", 2)
    frames = without("energy", morse_frames("H2O", 9, forces=True)) + morse_frames("H2O", 2, seed=1)
    section = {"architecture": "painn", "features": 8, "layers": 1, "dtype": "float64",
               "training": {"steps": 3, "validation_fraction": 0}}  # fmt: skip
    found = piwsl.evaluate(piwsl.train(frames, tmp_path / "model", section), frames)
    assert (found["test_frames"], found["test_energy_frames"], found["test_force_frames"]) == (11, 2, 9)
    assert found["energy_constant_meV"] < 1e-6


def test_which_frames_have_energies_is_told_alike_in_memory_and_in_the_file(dataset):
    with Dataset(dataset) as file:
        indices = file.indices(TRAINING)
        in_file = stored(file, indices)
        for view in (in_file, held(file.structures(indices)), in_file.without_forces()):
            assert view.places_with_energy().tolist() == [*range(4, 12)]
            assert np.isfinite([each.energy for each in view.with_energy()]).all()
        every = in_file.with_energy()
        assert every.with_energy() is every


def test_validation_counts_what_is_labelled(potential, batch, structures):
    loss, errors = Loss(), ValidationErrors(Loss())
    with torch.no_grad():
        errors.add(batch, potential.predict(batch, errors.properties_of(batch)))
    labelled = [collate([graph(structures[place], 4.5, torch.float64) for place in (1, 2, 4, 5)])]
    expected = ValidationErrors(loss)
    with torch.no_grad():
        expected.add(labelled[0], potential.predict(labelled[0], {"energy"}))
    assert errors.rmse()["energy"] == pytest.approx(expected.rmse()["energy"])
    every, of_labelled = HeldOut.of(potential, [batch]).errors(), HeldOut.of(potential, labelled).errors()
    assert (every.frames, of_labelled.frames) == (6, 4)
    assert every.energy_rmse == pytest.approx(of_labelled.energy_rmse)


def test_a_process_knows_energies_of_some_frames_and_forces_of_others():
    frames = [from_atoms(atoms) for atoms in mixed("H2O", 3)]
    found = fit(frames, energies=True)
    assert np.isnan(found.left_energies[:3]).all()
    assert np.abs(found.left_energies[3:]).max() < 0.1 * np.ptp([each.energy for each in frames[3:]])
    assert np.isnan(np.concatenate(found.left_forces[3:6])).all()
    assert np.isfinite(np.concatenate([*found.left_forces[:3], *found.left_forces[6:]])).all()
    assert np.isnan(fit(frames[:4], energies=True).left_energies).all()  # the one is its own mean
    with pytest.raises(PiwslError, match="needs two frames to learn from"):
        fit([from_atoms(without("energy", morse_frames("H2O", 1))[0]), frames[3]], energies=True)


def test_a_pair_potential_is_fitted_to_what_is_labelled():
    frames = [from_atoms(atoms) for atoms in mixed("H2O", 4)]
    assert fit_pair_potential(frames, 4.0).error < 0.1


# Tests


def predicted_of(structures) -> Predictions:
    """Return energies that are off by 1, 2, 3, ... meV, forces by 10 meV/Å."""
    energies = [0.0 if np.isnan(each.energy) else each.energy for each in structures]
    forces = [np.zeros((len(each.numbers), 3)) if each.forces is None else each.forces + 0.01 for each in structures]
    count = len(structures)
    return Predictions(
        np.array(energies) + 1e-3 * np.arange(1, count + 1),
        forces,
        np.full((count, 3, 3), np.nan),
        np.full(count, 0.01),
    )


def test_errors_are_of_what_is_labelled_and_say_of_how_many_frames(structures, tmp_path):
    warm = [replace(each, temperature=300.0) for each in structures]
    predictions = predicted_of(warm)
    errors, where, worst, spread = ErrorSummary(), Breakdown(), WorstFrames(), SpreadSummary()
    for each in (errors, where, worst, spread):
        each.add(warm[:1], replace(predictions, energy=predictions.energy[:1], energy_std=predictions.energy_std[:1],
                                   forces=predictions.forces[:1], stress=predictions.stress[:1]))  # fmt: skip
        each.add(warm[1:], replace(predictions, energy=predictions.energy[1:], energy_std=predictions.energy_std[1:],
                                   forces=predictions.forces[1:], stress=predictions.stress[1:]))  # fmt: skip
    found = errors.values()
    assert found["energy_mae_meV"] == pytest.approx(np.mean([2, 3, 5, 6]))
    assert found["energy_constant_meV"] == pytest.approx(np.mean([2.5, 5.5]))
    assert found["force_mae_meV_per_A"] == pytest.approx(10.0)
    assert [found[f"test_{name}frames"] for name in ("", "energy_", "force_")] == [6, 4, 4]
    assert where.values()["energy_mae_by_temperature_300K_meV"] == pytest.approx(4.0)
    assert spread.values()["energy_error_over_spread"] == pytest.approx(np.sqrt(np.mean([4, 9, 25, 36])) / 10)
    write_frames(tmp_path / "worst.xyz", worst.frames())
    by_frame = {atoms.info["frame"]: atoms for atoms in read_frames(tmp_path / "worst.xyz")}
    assert by_frame[5].info["energy_error_meV"] == pytest.approx(6.0)
    assert "energy_error_meV" not in by_frame[0].info
    assert ENERGY_KEY not in by_frame[0].info
    assert errors_in_words(by_frame[0]).startswith("Its energy is not labelled; force components by 10")


def test_a_model_is_tested_on_both_kinds_and_the_report_reads_it(dataset, trained, tmp_path):
    files = [tmp_path / name for name in ("errors.json", "predictions.parquet", "worst.xyz")]
    evaluate(dataset, RUN, trained, *files)
    found = read_json(files[0])
    assert [found[f"test_{name}frames"] for name in ("", "energy_", "force_")] == [12, 8, 8]
    energy = read_predictions(files[1])["energy"]
    assert np.isnan(energy.label[:4]).all()
    assert found["energy_mae_meV"] == pytest.approx(1e3 * np.nanmean(np.abs(energy.predicted - energy.label)))
    shown = of_run(pairs_of(files[1]), 100)
    assert "no number" not in shown["parity-energy"].words
    assert [len(each) for each in spread_of(files[1], "energy")] == [0, 0]
    assert all(errors_in_words(atoms) for atoms in read_frames(files[2]))
    said = "Energies are those of the test frames that have one: 8 of 12 of d."
    assert labelled_in_words(pd.DataFrame([found, RUN.plain() | {"dataset": "old", "test_frames": 3}])) == said


def test_frames_of_a_scan_without_an_energy_are_no_points_of_its_curve(tmp_path):
    frames = mixed(of_each=2)
    for number, atoms in enumerate(frames):
        atoms.info["scan_coordinate"] = float(number)
    write_dataset(tmp_path / "hot.h5", {TEST: frames})
    scanned = scanned_of("hot", ("Distance 0-1", "Å"), tmp_path / "hot.h5", [])
    assert scanned.values.tolist() == scanned.places.tolist() == [2, 3, 4, 5]
    assert np.isfinite(scanned.reference).all()


def test_a_named_test_set_keeps_what_is_absent(tmp_path):
    write_dataset(tmp_path / "training.h5", {TRAINING: mixed()})
    write_dataset(tmp_path / "labelled.h5", {TEST: mixed(seed=5)})
    write_test_set(tmp_path / "labelled.h5", tmp_path / "training.h5", tmp_path / "hot.h5", None, {"energy_unit": "eV"})
    with Dataset(tmp_path / "hot.h5") as hot:
        assert hot.labelled(REFERENCE, "energy").tolist() == [False] * 4 + [True] * 8


# Files


def test_a_named_test_set_may_hold_an_element_of_which_it_has_no_energy(tmp_path):
    frames = morse_frames("H2O", 2) + without("energy", morse_frames("CH4", 2, forces=True))
    write_frames(tmp_path / "hot.xyz", frames)
    both = GivenDataset(file=tmp_path / "hot.xyz", test_file=tmp_path / "hot.xyz")
    import_given(both, tmp_path / "hot.h5", part=TEST)
    with Dataset(tmp_path / "hot.h5") as hot:
        assert hot.labelled(REFERENCE, "energy").tolist() == [True, True, False, False]
    with pytest.raises(PiwslError, match="no training frame with C has REF_energy"):
        import_given(both, tmp_path / "training.h5", part=TRAINING)


def test_a_file_of_both_kinds_is_imported_with_what_each_frame_has(tmp_path, capsys):
    frames = mixed()
    write_frames(tmp_path / "mine.xyz", frames)
    section = GivenDataset(file=tmp_path / "mine.xyz", test_file=tmp_path / "mine.xyz")
    import_given(section, tmp_path / "mine.h5")
    with Dataset(tmp_path / "mine.h5") as dataset:
        found = dataset.structures(dataset.indices(TRAINING))
        assert dataset.about()["labels"][REFERENCE] == {"energy": 16, "forces": 16}
    for atoms, structure in zip(frames, found, strict=True):
        assert structure.at_level(REFERENCE).energy == atoms.info.get(ENERGY_KEY)
        assert (structure.forces is None) == (FORCES_KEY not in atoms.arrays)
    assert (
        "12 frames, 8 with forces (REF_forces in eV/Å); 8 with energies (REF_energy in eV), " in capsys.readouterr().out
    )
    again = [from_atoms(atoms) for atoms in read_frames(tmp_path / "mine.xyz")]
    assert [each.at_level(REFERENCE).energy for each in again] == [each.at_level(REFERENCE).energy for each in found]


def test_what_is_odd_about_energies_is_looked_for_among_those_that_are_there():
    frames = without("energy", morse_frames("H2O", 20, forces=True)) + morse_frames("H2O", 20, seed=1)
    assert not findings({TRAINING: frames})
    frames[30].info[ENERGY_KEY] += 30.0
    (found,) = findings({TRAINING: frames})
    assert "energies: 1 of 20 frames (frame ?) are up to" in found.said
    for atoms in frames[20:]:
        atoms.info[ENERGY_KEY] = 1.0
    assert [each.said for each in findings({TRAINING: frames})] == ["energies: all 20 frames have the same one, 1 eV"]


def test_of_copies_the_one_with_more_labels_counts():
    both, alone = morse_frames("H2O", 1, forces=True), without("energy", morse_frames("H2O", 1, forces=True))
    assert survey_of([*both, *alone], Formulas()).labels.tolist() == [2, 1]


# Refusals


def imported(folder: Path, frames: list[Atoms], **keys: object) -> None:
    write_frames(folder / "mine.xyz", frames)
    write_frames(folder / "test.xyz", keys.pop("test", morse_frames("H2O", 2, seed=5)))  # type: ignore[arg-type]
    import_given(GivenDataset(file=folder / "mine.xyz", test_file=folder / "test.xyz", **keys), folder / "mine.h5")


def test_frames_that_say_nothing_of_energies_are_refused_at_the_import(tmp_path):
    alone = without("energy", morse_frames("H2O", 4, forces=True))
    other = without("energy", morse_frames("CH4", 4, forces=True))
    nothing = without("energy", morse_frames("H2O", 1))
    cases = {
        "mine.xyz: frame 2: has no REF_energy and no REF_forces; its info": ([*morse_frames("H2O", 2), *nothing], {}),
        "mine.xyz: no training frame has REF_energy, and forces do not tell where energies begin": (alone, {}),
        "mine.xyz: no training frame has dft, and": (alone, {"energy_key": "dft", "test": alone}),
        "test.xyz: no test frame has REF_energy": (morse_frames("H2O", 4), {"test": alone}),
        "mine.xyz: no training frame with C has REF_energy": ([*morse_frames("H2O", 4), *other], {}),
    }
    for said, (frames, keys) in cases.items():
        with pytest.raises(PiwslError) as raised:
            imported(tmp_path, frames, **keys)
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)
    imported(tmp_path, [*morse_frames("H2O", 2), *nothing], drop=["unlabelled"])


def test_check_refuses_a_size_whose_frames_have_no_energy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = without("energy", morse_frames("H2O", 12, forces=True)) + morse_frames("H2O", 1, seed=1)
    write_frames(tmp_path / "mine.xyz", frames)
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 2, seed=2))
    config = plain_experiment() | {"sizes": [3], "levels": {}}
    config["datasets"] = {"mine": {"file": "mine.xyz", "test_file": "test.xyz"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    found = CliRunner().invoke(app, ["check", "config.yaml"])
    assert found.exit_code == 1
    assert "sizes: of the 2 frames of dataset 'mine' that model 'painn' learns from at size 3, seed" in found.output
    assert "(1 of all 13 training frames have one); raise the size" in " ".join(found.output.split())
    (file, _) = read_files(GivenDataset(file=tmp_path / "mine.xyz", test_file=tmp_path / "test.xyz"))
    assert "1 with energies (REF_energy in eV)" in summary(GivenDataset(file=file.path, test_frames=1), file)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (
            lambda: without("energy", morse_frames("H2O", 4, forces=True)),
            "none of the 3 training frames of the data has",
        ),
        (lambda: without("energy", morse_frames("H2O", 4)), "frame 0 has no REF_energy and no REF_forces"),
        (
            lambda: morse_frames("H2O", 2) + without("energy", morse_frames("CH4", 3, forces=True)),
            "none of the 4 training frames of the data with C has an energy",
        ),
    ],
)
def test_a_training_that_could_not_tell_where_energies_begin_is_refused(frames, said, tmp_path):
    with pytest.raises(PiwslError, match=said) as raised:
        piwsl.train(frames(), tmp_path, {"architecture": "painn", "training": {"steps": 1}}, seed=1)
    assert "\n" not in str(raised.value)


def test_a_head_for_forces_is_refused_where_no_frame_has_any(tmp_path):
    model = SMALL.model_copy(update={"forces": "direct"})
    with pytest.raises(PiwslError, match=r"nothing trains its head for forces \(no frame has forces\)"):
        piwsl.train(morse_frames("H2O", 6), tmp_path / "alone", model)
    assert not piwsl.train(mixed(), tmp_path / "forces", model).conservative


def test_check_refuses_a_head_for_forces_beside_a_file_of_energies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(Path("frames.xyz"), morse_frames("H2O", 8))
    config = plain_experiment() | {"sizes": [6], "levels": {}, "losses": {"supervised": {}}}
    config["datasets"] = {"mine": {"file": "frames.xyz", "test_frames": 2}}
    config["models"]["painn"] |= {"forces": "direct"}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    found = CliRunner().invoke(app, ["check", "config.yaml"])
    assert found.exit_code == 1
    assert "nothing trains its head for forces (no frame has forces)" in " ".join(found.output.split())


def test_a_validation_without_a_label_that_the_loss_looks_at_is_refused():
    frames = [from_atoms(atoms) for atoms in mixed(of_each=1)]
    learned = TrainingFrames(held(frames[1:]), held(frames[:1])).seen_by(Loss(forces=0.0))
    with pytest.raises(PiwslError, match="none of the 1 validation frames of the data has a label that the loss looks"):
        learned.check(Loss(forces=0.0), Names())


def test_a_stress_that_the_loss_does_not_look_at_is_no_label_to_validate_on():
    crystal = Atoms("Cu", cell=np.full((3, 3), 1.8) - 1.8 * np.eye(3), pbc=True)
    learned = from_atoms(label(crystal, 1.0, None))
    validated = from_atoms(label(crystal, None, np.zeros((1, 3)), np.zeros((3, 3))))
    frames, energies = TrainingFrames(held([learned]), held([validated])), Loss(forces=0.0)
    assert validated.at_level(REFERENCE).stress is not None
    with pytest.raises(PiwslError, match="has a label that the loss looks at"):
        frames.seen_by(energies).check(energies, Names())


def test_where_all_energies_are_validated_on_that_is_said():
    frames = [from_atoms(atoms) for atoms in mixed(of_each=2)]
    with pytest.raises(PiwslError, match="those of the size that have one, 2, are validated on"):
        TrainingFrames(held(frames[:2]), held(frames[2:4])).check(Loss(), Names())


def test_energies_that_do_not_differ_leave_forces_to_learn():
    atoms = [label(Atoms(symbol), -1.0, np.zeros((1, 3))) for symbol in "HO"]
    known, moved = (
        [from_atoms(each) for each in atoms],
        [from_atoms(each) for each in morse_frames("H2O", 2, forces=True)],
    )
    assert float(build_potential(SMALL, known).learned.scale) < 1e-5
    assert float(build_potential(SMALL, known, moved=moved).learned.scale) > 0.1


def test_frames_without_any_label_have_no_error(trained):
    alone = without("energy", morse_frames("H2O", 2, forces=True))
    model = load_model(trained)
    assert piwsl.evaluate(model, alone)["energy_mae_meV"] is None
    assert piwsl.evaluate(model, alone)["force_mae_meV_per_A"] > 0
    with pytest.raises(PiwslError, match="frame 1: has no REF_energy and no REF_forces to compare with"):
        piwsl.evaluate(model, [alone[0], *without("energy", morse_frames("H2O", 1))])
