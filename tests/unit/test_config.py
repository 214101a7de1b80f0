"""A configuration is right, or it is refused with one line that says what was found, where, and what would do."""

from __future__ import annotations

import copy
import os
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT, morse_frames, plain_experiment

from piwsl.config import PRESETS, ConfigError, Experiment, Loss, json_schema, parse_section, read_yaml
from piwsl.config.levels import parse_level
from piwsl.errors import PiwslError
from piwsl.loss_terms.pitc import PITC
from piwsl.preflight import claim, load_experiment
from piwsl.reference.checks import check_level
from piwsl.reference.engines.pyscf import PySCF
from piwsl.structures.frames import write_frames
from piwsl.workflow.planned import parse_experiment

DEFAULT: dict[str, Any] = plain_experiment()
# The default names a preset; here it is spelt out, so that mistakes can be made in it.
DEFAULT["levels"] = {"ccsdt-cbs": PRESETS["ccsdt-cbs"]()}


def edited(path: str, value: Any) -> dict[str, Any]:
    """Return the default config with one key, given by its path, set to a value (None: a dataset as it is)."""
    config = copy.deepcopy(DEFAULT)
    *parents, last = path.split(".")
    if path.startswith("datasets.") and path.removeprefix("datasets.") in ("report.html", "snakemake.zip", "Logs"):
        parents, last, value = ["datasets"], path.removeprefix("datasets."), config["datasets"]["ammonia"]
    section = config
    for key in parents:
        section = section[int(key)] if isinstance(section, list) else section[key]
    section[last] = value
    return config


def written(config: dict[str, Any], folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("dataset", "forces", "complaint"),
    [
        ({"file": "mine.xyz", "test_frames": 2}, "direct", "the forces of model 'painn' have a head of their own"),
        (DEFAULT["datasets"]["ammonia"], "conservative", "dataset 'ammonia' is of molecules, which have none"),
    ],
    ids=["direct forces", "molecules"],
)
def test_a_stress_that_nothing_has_is_refused(dataset, forces, complaint):
    config = edited("losses.supervised.stress", 1.0)
    config["datasets"] = {"ammonia": dataset}
    config["models"]["painn"]["forces"] = forces
    with pytest.raises(ConfigError, match=rf"losses\.supervised\.stress: {complaint}"):
        parse_section(Experiment, config, "test")


def test_the_default_experiment_is_in_order():
    experiment = load_experiment(ROOT / "config.yaml")
    assert len(experiment.runs()) == 2 * 2 * 2 + 3 * 2


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_that_is_shipped_is_well_formed_and_compares_what_differs(path):
    experiment = parse_experiment(yaml.safe_load(path.read_text()), path.name)
    for compared in (experiment.models, experiment.losses):
        assert not [names for names in combinations(compared, 2) if compared[names[0]] == compared[names[1]]]


@pytest.mark.parametrize(
    ("path", "value", "where", "hint"),
    [
        ("experimnt", "x", "config.yaml", "did you mean 'experiment'?"),
        ("models.painn.training.learning_rat", 1, "models.painn.training", "did you mean 'learning_rate'?"),
        ("models.painn.training.learning_rate", "fast", "models.painn.training.learning_rate", "found 'fast'"),
        ("models.painn.architecture", "pain", "models.painn.architecture", "did you mean 'painn'?"),
        ("models.painn.architecture", None, "models.painn.architecture", "known are gaussian_process, mace, painn"),
        ("models.painn.atomic_references", "free atoms", "painn.atomic_references", "did you mean 'free_atoms'?"),
        ("models.painn.atomic_references", {"N": -1485.0}, "painn.atomic_references", "has no energy of H; give"),
        ("models.painn.atomic_references", {"Nn": -1.0}, "painn.atomic_references", "no element 'Nn'"),
        ("models.painn.atomic_references", {"H": "x"}, "painn.atomic_references", "H is x, no energy of an atom"),
        ("models.painn.atomic_references", {"H": float("nan")}, "painn.atomic_references", "H is nan, no energy"),
        ("models.painn.atomic_references", {}, "painn.atomic_references", "holds no element"),
        ("models.painn.atomic_references", [1], "painn.atomic_references", "such as {H: -13.6}"),
        ("models.painn.features", 1, "models.painn.features", "found 1"),
        ("models.painn.forces", "direkt", "models.painn.forces", "'conservative' or 'direct'"),
        ("models.painn", {"architecture": "schnet", "forces": "direct"}, "models.painn", "unknown key 'forces'"),
        ("losses.weak.pitc.order", 3, "losses.weak.pitc.order", "found 3"),
        ("losses.weak.pitc.order", "centre", "losses.weak.pitc.order", "'quadratic' or 'central-4', found 'centre'"),
        ("losses.weak.pitc", {"weight": 1, "order": "central", "anchor": "pseudo-label"}, "losses.weak.pitc", "say 1"),
        ("losses.weak.pisc", {"weight": 1, "order": "central"}, "losses.weak.pisc.order", "found 'central'"),
        ("losses.weak.pisc", {"weight": 1, "order": True}, "losses.weak.pisc.order", "found True"),
        ("losses.weak.pict", {"weight": 1}, "losses.weak", "did you mean 'pitc'?"),
        ("losses.weak.pool", 1.0, "losses.weak.pool", "less than 1, found 1.0"),
        ("losses.weak.pool", -0.1, "losses.weak.pool", "found -0.1"),
        ("losses.weak.pool", 0.5, "losses.weak.pool", "'ammonia' has no pool; say datasets.ammonia.pool_frames"),
        ("losses.supervised.pool", 0.5, "losses.supervised", "pool: no term of this loss looks at frames without"),
        ("datasets.ammonia.pool_frames", 0, "datasets.ammonia.pool_frames", "found 0"),
        ("sizes", [-20], "sizes.0", "found -20"),
        ("sizes", [25, 101], "sizes", "101 is more than the 100 training frames"),
        ("sizes", [1], "sizes", "leaves no frame"),
        ("seeds", [0, 0], "seeds", "names one twice"),
        ("datasets.ammonia.sampling.temperatures", [300, 300], "sampling.temperatures", "names one twice"),
        ("datasets.ammonia.level", "ccsdt_cbs", "datasets.ammonia.level", "did you mean 'ccsdt-cbs'?"),
        ("datasets.ammonia.molecule.charge", 1, "datasets.ammonia.molecule", "an even one is needed"),
        ("datasets.ammonia.molecule.multiplicity", 2, "datasets.ammonia.molecule", "an odd one is needed"),
        ("datasets.ammonia.molecule.name", "NH33", "datasets.ammonia.molecule", "not in ASE's G2 collection"),
        ("datasets.ammonia.test_force_frames", 25, "datasets.ammonia", "more than test_frames"),
        ("datasets.ammonia.molecul", {"name": "NH3"}, "datasets.ammonia", "did you mean 'molecule'?"),
        ("levels.ccsdt-cbs.stages.0.method", "hff", "levels.ccsdt-cbs.stages.0.method", "'hf'"),
        ("levels.ccsdt-cbs.stages.0.bases", ["cc-pvtz", "cc-pv5z"], "stages.0", "successive cardinal numbers"),
        ("levels.ccsdt-cbs.stages.2.bases", ["cc-pvxz"], "levels.ccsdt-cbs", "basis 'cc-pvxz'"),
        ("levels.ccsdt-cbs.stages.1.natural_orbitals", 1e-4, "stages.1", "only 'ccsd' and 'ccsd(t)' are cut off"),
        ("only", [{"loss": "weka"}], "only.0.loss", "did you mean 'weak'?"),
        ("exclude", [{"size": [25, 100]}], "only/exclude", "no run is left"),
        ("experiment", "../elsewhere", "experiment", "found '../elsewhere'"),
        ("experiment", "README.md", "experiment", "results/README.md is no folder of an experiment"),
        ("experiment", "Labels", "experiment", "results/Labels is no folder of an experiment"),
        ("experiment", "x" * 61, "experiment", "at most 60 characters"),
        ("experiment", "ab" * 20, "experiment", "ends in 'ab' twenty times"),
        ("experiment", "a\x1b[2J", "experiment", "a\\x1b[2J"),
        ("seeds", [2**64], "seeds.0", "less than or equal to 4294967295, found 18446744073709551616"),
        ("seeds", [True], "seeds.0", "valid integer, found True"),
        ("sizes", [25.0], "sizes.0", "valid integer, found 25.0"),
        ("sizes", ["25"], "sizes.0", "valid integer, found '25'"),
        ("seeds", list(range(5000)), "seeds", "the grid has 20000 runs"),
        ("simulations.bath.time", float("inf"), "simulations.bath.time", "finite number, found inf"),
        ("simulations.bath.time", float("nan"), "simulations.bath.time", "finite number, found nan"),
        ("simulations.bath.time", 0.0002, "simulations.bath", "less than one step of 0.5 fs"),
        ("simulations.bath.temperatures", [True], "simulations.bath.temperatures.0", "valid number, found True"),
        ("simulations.bath.temperatures", [300, 300], "simulations.bath", "names one twice"),
        ("simulations.bath.starts", 1001, "simulations.bath.starts", "found 1001"),
        ("simulations.bath.replicas", 251, "simulations.bath", "starts: 1004 replicas in all, 1000 at most"),
        ("simulations.bath.velocities_every", 8, "simulations.bath", "4 fs between velocities miss fast vibrations"),
        ("simulations.bath.temperature", 300, "simulations.bath", "temperature: 'temperatures' is there, too"),
        ("simulations.bath.only", [{"model": "pain"}], "simulations.bath.only.0.model", "did you mean 'painn'"),
        ("simulations.BATH", {}, "simulations.bath", "is the same folder on some disks"),
        ("simulation", {}, "simulation", "'simulations' is there, too"),
        ("simulations.bath.seed", 2**64, "simulations.bath.seed", "4294967295"),
        ("models.painn.cutoff", float("inf"), "models.painn.cutoff", "found inf"),
        ("models.painn.cutoff", 1000, "models.painn.cutoff", "less than or equal to 20, found 1000"),
        ("models.painn.cutoff", 1e-300, "models.painn.cutoff", "found 1e-300"),
        ("models.painn", {"architecture": "painn", "baseline_scale": -2}, "n.baseline_scale: ", "'fitted', found -2"),
        ("models.painn", {"architecture": "painn", "baseline_scale": [1]}, "n.baseline_scale: ", "valid number, or"),
        ("models.painn.pair_potential", "yes", "n.pair_potential: ", "boolean, or input should be 'auto', found 'yes'"),
        ("models.painn.layers", 10**6, "models.painn.layers", "found 1000000"),
        ("models.painn.training.steps", 2**70, "models.painn.training.steps", "found 1180591620717411303424"),
        ("models.painn.training.compile", 1, "models.painn.training.compile", "valid boolean, found 1"),
        ("models.painn", {"architecture": "mace", "max_ell": 30}, "models.painn.max_ell", "found 30"),
        ("models.painn", None, "models.painn", "expected keys and values, found None"),
        ("models.painn.architecture", ["painn"], "models.painn.architecture", "no architecture"),
        ("losses.weak.every", 2, "losses.weak", "every: stands in each weak term now, e.g. pitc: {"),
        ("losses.weak.pitc.every", 0, "losses.weak.pitc.every", "found 0"),
        ("losses.weak.pisc", {"weight": 1, "share": 0}, "losses.weak.pisc.share", "found 0"),
        ("losses.weak.pisc", {"weight": 1, "share": 1.5}, "losses.weak.pisc.share", "found 1.5"),
        ("losses.weak", {"energy": 0, "forces": 0}, "losses.weak", "energy and forces are both 0"),
        ("losses.weak.displacement", 1000, "losses.weak.displacement", "less than or equal to 1"),
        ("losses.weak.pitc.order", True, "losses.weak.pitc.order", "found True"),
        ("losses.Supervised", {}, "losses.supervised", "'Supervised' is the same folder on some disks"),
        ("datasets.ammonia", None, "datasets.ammonia", "expected keys and values, found None"),
        ("datasets.ammonia", [1], "datasets.ammonia", "expected keys and values, found [1]"),
        ("datasets.ammonia", "text", "datasets.ammonia", "expected keys and values, found 'text'"),
        ("datasets.ammonia.level", ["ccsdt-cbs"], "datasets.ammonia.level", "valid string"),
        ("datasets.ammonia.sampling.temperatures", [1e-5], "sampling.temperatures.0", "found 1e-05"),
        ("datasets.ammonia.sampling.stride", 10**6, "sampling.stride", "steps of dynamics"),
        ("datasets.ammonia.labelling.frames_per_job", 0.5, "labelling.frames_per_job", "found 0.5"),
        ("datasets.report.html", None, "datasets.report.html", "another's in the results"),
        ("datasets.snakemake.zip", None, "datasets.snakemake.zip", "another's in the results"),
        ("datasets.Logs", None, "datasets.Logs", "another's in the results"),
        ("datasets.x", {"file": "{a}.xyz", "test_frames": 1}, "datasets.x.file", "means something else"),
        ("datasets.x", {"file": "frames.xyz@0:200", "test_frames": 1}, "datasets.x.file", "a path with '@'"),
        ("datasets.x", {"file": "y" * 300, "test_frames": 1}, "datasets.x.file", "no path of a file"),
        ("only", [{"seed": True}], "only.0.seed", "no seed 'True'"),
        ("levels.ccsdt-cbs.stages.0.bases", ["/etc/passwd"], "stages.0.bases.0", "found '/etc/passwd'"),
        ("x" * 5000, 1, "config.yaml", "unknown key"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_in_one_line(tmp_path, path, value, where, hint):
    with pytest.raises(ConfigError) as caught:
        load_experiment(written(edited(path, value), tmp_path))
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) <= 200
    assert where in message
    assert hint in message


def test_an_element_that_a_basis_lacks_is_named_with_level_and_basis(tmp_path):
    config = edited("datasets.ammonia.molecule.name", None)
    config["datasets"]["ammonia"]["molecule"]["file"] = str(tmp_path / "iodide.xyz")
    (tmp_path / "iodide.xyz").write_text("2\n\nH 0 0 0\nI 0 0 1.6\n")
    with pytest.raises(ConfigError, match=r"levels\.ccsdt-cbs: basis 'cc-pvtz.*' has no I in PySCF"):
        load_experiment(written(config, tmp_path))


def test_a_basis_for_a_core_potential_is_taken_with_that_potential_alone():
    def level(basis: str) -> PySCF:
        return PySCF.model_validate({"method": "hf", "basis": basis, "density_fitting": False})

    for basis, symbol in (
        ("def2-svp", "I"),
        ("def2-TZVPP", "Au"),
        ("lanl2dz", "Cl"),
        ("sto-3g", "I"),
        ("dyall-v2z", "I"),
    ):
        check_level(level(basis), {symbol})
    # Functions for carbon without its 1s electrons, beside no potential of the name.
    with pytest.raises(PiwslError, match="'ccecp-cc-pvdz' of C is made for an effective core potential"):
        check_level(level("ccecp-cc-pvdz"), {"H", "C"})


@pytest.mark.parametrize(
    ("stages", "sum_"),
    [
        (["mp2", "ccsd(t)"], r"\+1 mp2 \+1 ccsd\(t\)"),
        (["mp2", "mp2"], r"\+2 mp2"),
        (["mp2", ("ccsd(t)", "ccsd")], r"\+1 mp2 \+1 ccsd\(t\) -1 ccsd"),
        ([("ccsd(t)", "mp2")], r"\+1 ccsd\(t\) -1 mp2"),
    ],
)
def test_stages_that_do_not_add_up_to_one_method_are_refused(stages, sum_):
    pairs = [(stage, None) if isinstance(stage, str) else stage for stage in stages]
    keys = [{"method": "hf", "bases": ["cc-pvdz"]}]
    keys += [{"method": method, "minus": minus, "bases": ["cc-pvdz"]} for method, minus in pairs]
    with pytest.raises(
        ConfigError, match=f"levels.x: stages: their correlation energies add up to {sum_}, expected one"
    ):
        parse_level({"stages": keys}, "levels.x")


def test_stages_that_correct_one_another_add_up():
    keys = [{"method": "hf", "bases": ["cc-pvqz"]}, {"method": "mp2", "bases": ["cc-pvtz", "cc-pvqz"]}]
    keys += [{"method": "ccsd", "minus": "mp2", "bases": ["cc-pvtz"]}]
    keys += [{"method": "ccsd(t)", "minus": "ccsd", "bases": ["cc-pvdz"]}]
    assert str(parse_level({"stages": keys}, "levels.x")).endswith("[CCSD(T) - CCSD]/cc-pvdz, frozen core")


def test_dispersion_is_not_counted_twice():
    level = PySCF.model_validate({"method": "dft", "functional": "wb97m-v", "dispersion": "d4", "basis": "def2-svp"})
    with pytest.raises(PiwslError, match="'wb97m-v' has nonlocal"):
        check_level(level, {"H", "O"})


def test_a_missing_key_and_a_broken_file_are_named(tmp_path):
    config = copy.deepcopy(DEFAULT)
    del config["seeds"]
    with pytest.raises(ConfigError, match="seeds: this key is missing"):
        load_experiment(written(config, tmp_path))
    (tmp_path / "broken.yaml").write_text("experiment: [\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml: line 2 is not YAML"):
        load_experiment(tmp_path / "broken.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        load_experiment(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("losses:\n  weak: {energy: 1}\n  weak: {energy: 2}\n", "line 3: key 'weak' stands twice, first in line 2"),
        ("a:\n- b: {c: {d: 1, e: 2, d: 3}}\n", "line 2: key 'd' stands twice, first in line 2"),
        ("{'a': 1, \"a\": 2}", "line 1: key 'a' stands twice"),
        ("__use_yte__: true\n?if True:\n  a: 1\n", "line 1: __use_yte__ would make Snakemake run"),
        ("a: !!python/name:os.system x", "line 1: the tag 'tag:yaml.org,2002:python/name:os.system' is not"),
        ("a: 1\nb: " + "[" * 5000 + "]" * 5000, "line 2: more than 20 levels deep"),
        ("a: &a [*a]", "an alias leads more than 20 levels deep"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 digits"),
        ("? [1, 2]\n: 3", "line 1: a key is a word"),
        ("a: 1\n---\na: 2", "line 2 is not YAML"),
        ("a: \x07", "is not YAML: unacceptable character #x0007"),
        ("", "found NoneType, expected keys and values"),
        ("- 1", "found list, expected keys and values"),
        ("a: 1" + " " * 300_000, "has 300004 bytes; a config has at most 200000"),
    ],
)  # fmt: skip
def test_a_text_that_hides_runs_or_grows_is_refused_with_its_line(tmp_path, text, complaint):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(complaint)) as caught:
        load_experiment(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 200


def test_aliases_count_as_often_as_they_stand(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="more than 100000 values"):
        read_yaml(path)


def test_a_file_that_is_no_text_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "utf16.yaml").write_bytes("a: 1".encode("utf-16"))
    for name, complaint in (("pipe", "is no file"), (".", "is no file"), ("utf16.yaml", "is not UTF-8")):
        with pytest.raises(ConfigError, match=complaint):
            read_yaml(tmp_path / name)


def test_values_are_what_they_look_like(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("[1e-3, 1.0e-3, 2E3, -5, .5, true, NO, yes, 010, 4:00, 2026-01-01, 1_000, ~, '1']")
    assert read_yaml(path) == [
        1e-3, 1e-3, 2e3, -5, 0.5, True, "NO", "yes", "010", "4:00", "2026-01-01", "1_000", None, "1"
    ]  # fmt: skip
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}")
    assert read_yaml(path)["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_data_that_are_no_file_are_refused_and_never_waited_for(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    given = {"file": kind, "test_frames": 1}
    geometries = {"geometries": {"file": kind}, "level": "demo", "training_frames": 100, "test_frames": 1}
    molecule = DEFAULT["datasets"]["ammonia"] | {"molecule": {"file": kind}}
    for dataset in (given, geometries, molecule):
        config = copy.deepcopy(DEFAULT) | {"datasets": {"x": dataset}}
        with pytest.raises(ConfigError, match=rf"datasets\.x.*: {kind} is no file"):
            load_experiment(written(config, tmp_path))


@pytest.mark.parametrize("folder", ["results/x", "elsewhere/../results/x", "linked"])
def test_files_among_the_results_of_the_experiment_itself_are_refused(tmp_path, monkeypatch, folder):
    """Snakemake takes them for its own and deletes them."""
    monkeypatch.chdir(tmp_path)
    Path("results/x/datasets/mine").mkdir(parents=True)
    Path("elsewhere").mkdir()
    Path("linked").symlink_to("results/x")
    own = f"{folder}/datasets/mine/split.json"
    sections = {
        "split.stored": {"file": "mine.xyz", "split": {"stored": own}},
        "split.test": {"file": "mine.xyz", "split": {"test": own}},
        "test_file": {"file": "mine.xyz", "test_file": own},
        "tests.hot.file": {"file": "mine.xyz", "test_frames": 3, "tests": {"hot": {"file": own}}},
        "geometries.file": {
            "geometries": {"file": own},
            "level": "demo",
            "training_frames": 100,
            "test_frames": 1,
        },
    }
    for key, section in sections.items():
        config = copy.deepcopy(DEFAULT) | {"experiment": "x", "datasets": {"y": section}}
        with pytest.raises(ConfigError, match=rf"datasets\.y\.{key}: .* copy it out of results/x first$"):
            load_experiment(written(config, tmp_path))
        with pytest.raises(ConfigError) as raised:
            load_experiment(written(config | {"experiment": "x2"}, tmp_path))
        assert "copy it out" not in str(raised.value)


def test_a_dataset_of_too_many_jobs_is_refused(tmp_path):
    config = edited("datasets.ammonia.training_frames", 20_000)
    config["datasets"]["ammonia"]["labelling"]["frames_per_job"] = 1
    with pytest.raises(ConfigError, match=r"datasets\.ammonia: 200\d\d labelling jobs, 10000 at most"):
        load_experiment(written(config, tmp_path))


def test_another_config_s_results_are_refused_by_check_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(DEFAULT, tmp_path)
    (tmp_path / "other.yaml").write_text("")
    claim(load_experiment(path), "other.yaml")
    with pytest.raises(ConfigError, match=r"experiment: results/ammonia belongs to other\.yaml"):
        load_experiment(path)
    claim(parse_section(Experiment, DEFAULT, "test"), str(path))
    load_experiment(path)


def test_given_frames_must_suffice_for_the_sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # away from what an experiment of the same name left in results
    write_frames(tmp_path / "frames.xyz", morse_frames("H2O", 12))
    config = copy.deepcopy(DEFAULT)
    config["datasets"] = {"mine": {"file": str(tmp_path / "frames.xyz"), "test_frames": 4}}
    config["sizes"] = [9]
    with pytest.raises(ConfigError, match="12 less 4 held out"):
        load_experiment(written(config, tmp_path))
    config["sizes"] = [8]
    assert len(load_experiment(written(config, tmp_path)).runs()) == 4
    config["datasets"]["mine"]["file"] = "nowhere.xyz"
    with pytest.raises(ConfigError, match=r"datasets\.mine: nowhere\.xyz: No such file"):
        load_experiment(written(config, tmp_path))


def test_only_and_exclude_cut_the_grid():
    config = copy.deepcopy(DEFAULT)
    config["only"] = [{"loss": "weak"}, {"size": 25, "seed": 0}]
    config["exclude"] = [{"loss": "weak", "seed": [1]}]
    runs = {(run.loss, run.size, run.seed) for run in parse_section(Experiment, config, "test").runs()}
    assert runs == {("weak", 25, 0), ("weak", 100, 0), ("supervised", 25, 0)}


def test_a_share_of_a_gpu_is_of_a_training_on_one():
    assert parse_experiment(edited("models.painn.resources", {"gpus": 1, "gpu_mem_mb": 8000}), "c")
    for gpus in (0, 2):
        with pytest.raises(ConfigError, match=f"gpu_mem_mb: is of a training on one GPU; found gpus: {gpus}"):
            parse_experiment(edited("models.painn.resources", {"gpus": gpus, "gpu_mem_mb": 8000}), "c")


def test_resources_are_no_part_of_what_a_result_depends_on():
    config = edited("models.painn.resources", {"mem_mb": 9000})
    model = parse_section(Experiment, config, "test").models["painn"]
    default = parse_section(Experiment, DEFAULT, "test").models["painn"]
    assert model.resources.mem_mb == 9000
    assert model.plain() == default.plain()
    assert model.beyond_defaults() == default.beyond_defaults()


def test_a_default_and_a_key_that_a_later_version_adds_change_no_param():
    class LaterLoss(Loss):
        smoothing: float = 0.0

    stated = {"energy": 2.0, "pitc": {"weight": 0.1, "order": 1}}
    said = Loss(**stated).beyond_defaults()
    assert LaterLoss(**stated).beyond_defaults() == said == Loss(**stated, displacement=0.02).beyond_defaults()
    assert Loss(**stated, displacement=0.01).beyond_defaults() != said
    assert Loss.model_validate(Loss(**stated).beyond_defaults()) == Loss(**stated)


def test_a_loss_on_forces_that_the_dataset_lacks_is_refused():
    config = edited("losses.weak.weak_forces", {"weight": 1.0})
    with pytest.raises(ConfigError, match=r"losses\.weak\.weak_forces: dataset 'ammonia' has no forces of a cheaper"):
        parse_section(Experiment, config, "test")
    config["datasets"]["ammonia"]["weak_forces"] = "gfn2-xtb"
    assert parse_section(Experiment, config, "test").losses["weak"].weak_forces.weight == 1.0


@pytest.mark.parametrize(
    ("terms", "seen"),
    [
        ({"pitc": {"weight": 1}}, True),
        ({"pitc": {"weight": 1, "anchor": "label"}}, False),
        ({"pitc": {"weight": 1, "anchor": "pseudo-label"}}, False),
        ({"pisc": {"weight": 1}}, True),
        ({"augmentation": {}}, False),
        ({"weak_forces": {"weight": 1}}, True),
        ({}, False),
    ],
)
def test_a_pool_needs_a_term_that_needs_no_label(terms, seen):
    config = edited("losses.weak", terms | {"pool": 0.25})
    config["datasets"]["ammonia"] |= {"pool_frames": 50, "weak_forces": "gfn2-xtb"}
    if seen:
        assert parse_section(Experiment, config, "test").losses["weak"].pool == 0.25
        return
    with pytest.raises(ConfigError, match=r"losses\.weak: pool: no term of this loss looks at frames without labels"):
        parse_section(Experiment, config, "test")


def test_a_pool_needs_a_dataset_that_has_one_and_room_in_a_step(tmp_path):
    config = edited("losses.weak.pool", 0.5)
    config["datasets"]["mine"] = {"file": "mine.xyz", "test_frames": 4}
    config["exclude"] = [{"dataset": "ammonia", "loss": "weak"}]
    with pytest.raises(
        ConfigError, match=r"losses\.weak\.pool: dataset 'mine' has no pool; say datasets\.mine\.pool_file"
    ):
        parse_section(Experiment, config, "test")
    config["datasets"]["mine"]["pool_file"] = "pool.xyz"
    assert parse_section(Experiment, config, "test").datasets["mine"].has_pool
    config["models"]["painn"]["training"] = {"batch_size": 1}
    with pytest.raises(ConfigError, match=r"losses\.weak\.pool: a step of model 'painn' has one frame, which is label"):
        parse_section(Experiment, config, "test")


def test_free_atoms_that_are_not_computed_are_no_references():
    config = edited("models.painn.atomic_references", "free_atoms")
    assert parse_section(Experiment, config, "test").models["painn"].atomic_references == "free_atoms"
    config["datasets"]["ammonia"]["free_atoms"] = False
    with pytest.raises(ConfigError, match=r"models\.painn\.atomic_references: dataset 'ammonia' has no free atoms"):
        parse_section(Experiment, config, "test")


def test_pseudo_labels_without_forces_are_refused():
    config = edited("losses.weak", {"forces": 0, "pitc": {"weight": 1, "anchor": "pseudo-label"}})
    with pytest.raises(ConfigError, match=r"losses\.weak: pitc\.anchor: a pseudo-label is made of labelled forces"):
        parse_section(Experiment, config, "test")
    assert parse_section(Experiment, edited("losses.weak.forces", 0), "test").losses["weak"].forces == 0


def test_pseudo_labels_want_frames_with_forces_or_a_teacher_who_gives_them():
    config = edited("losses.weak.pitc", {"weight": 1, "anchor": "pseudo-label"})
    with pytest.raises(ConfigError, match=r"losses\.weak\.pitc: made of labelled forces, and frames of dataset"):
        parse_section(Experiment, config, "test")
    config["datasets"]["ammonia"]["training_forces"] = True
    assert parse_section(Experiment, config, "test").losses["weak"].terms_of_labelled_forces == ["pitc"]


def test_a_loss_of_forces_alone_wants_frames_with_forces():
    config = edited("losses.weak.energy", 0)
    with pytest.raises(ConfigError, match=r"losses\.weak\.energy: 0, but frames of dataset 'ammonia' have no forces"):
        parse_section(Experiment, config, "test")
    config["datasets"]["ammonia"]["training_forces"] = True
    assert parse_section(Experiment, config, "test").losses["weak"].energy == 0


@pytest.mark.parametrize(
    ("loss", "trains"),
    [
        ({}, False),
        ({"pitc": {"weight": 1, "order": "quadratic"}}, False),
        ({"pitc": {"weight": 1}}, True),
        ({"pisc": {"weight": 1, "order": 2}}, True),
        ({"weak_forces": {"weight": 1}}, True),
    ],
    ids=["energies", "energies around", "pitc", "pisc", "forces of a cheaper level"],
)
def test_a_head_for_forces_wants_something_that_trains_it(loss, trains):
    """Of energies alone it would stay what its first weights are: forces are noise then, in dynamics, too."""
    config = edited("losses.weak", loss)
    config["models"]["painn"] |= {"forces": "direct"}
    config["datasets"]["ammonia"]["weak_forces"] = "gfn2-xtb"
    config["losses"] = {"weak": config["losses"]["weak"]}
    if trains:
        assert not parse_section(Experiment, config, "test").models["painn"].conservative
        return
    with pytest.raises(ConfigError, match=r"models\.painn: nothing trains its head for forces \(no frame has forces\)"):
        parse_section(Experiment, config, "test")
    config["datasets"]["ammonia"]["training_forces"] = True
    assert not parse_section(Experiment, config, "test").models["painn"].conservative
    config["losses"]["weak"]["forces"] = 0
    with pytest.raises(ConfigError, match=r"nothing trains its head for forces \(the loss has forces: 0\)"):
        parse_section(Experiment, config, "test")


def test_forces_of_a_cheaper_level_alone_must_last():
    alone = {"energy": 0, "forces": 0, "weak_forces": {"weight": 1.0}}
    assert parse_section(Loss, alone, "test").factors(10**6).keys() == {"weak_forces"}
    alone["weak_forces"]["until"] = 100
    with pytest.raises(ConfigError, match="no weak_forces last; give one of them a weight"):
        parse_section(Loss, alone, "test")


def test_a_share_is_of_all_structures_of_a_step_rounded_up():
    assert [PITC(weight=1.0, share=0.07).structures(count) for count in (1, 14, 15, 100)] == [1, 1, 2, 7]
    assert [PITC(weight=1.0, share=share).structures(8) for share in (1e-9, 0.5, 1.0)] == [1, 4, 8]


def test_compilation_and_mixed_precision_do_not_go_together():
    config = edited("models.painn.training", {"compile": True, "mixed_precision": True})
    with pytest.raises(ConfigError, match="compile: does not go with mixed_precision; choose one"):
        parse_section(Experiment, config, "test")


def test_the_schema_for_editors_is_up_to_date():
    stored = (ROOT / "workflow" / "schemas" / "config.schema.json").read_text()
    assert stored == json_schema(), "run `make schema`"


def test_two_spellings_of_a_level_are_one_level():
    stage = {"method": "hf", "bases": ["cc-pVTZ"]}
    spelt_out = {"method": "hf", "bases": ["cc-pvtz"], "density_fitting": True}
    assert PySCF(stages=[stage]).beyond_defaults() == PySCF(stages=[spelt_out]).beyond_defaults()
    conventional = spelt_out | {"density_fitting": False}
    assert PySCF(stages=[conventional]).beyond_defaults() != PySCF(stages=[stage]).beyond_defaults()


def test_a_dataset_may_name_a_preset_without_a_level_of_that_name():
    config = copy.deepcopy(DEFAULT)
    spelt_out = Experiment.model_validate(config).levels["ccsdt-cbs"]
    del config["levels"]
    assert Experiment.model_validate(config).levels == {"ccsdt-cbs": spelt_out}
    config["levels"] = {"ccsdt-cbs": {"method": "hf", "basis": "sto-3g"}}
    assert str(Experiment.model_validate(config).levels["ccsdt-cbs"]) == "DF-HF/sto-3g"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_levels_that_say_what_they_cost(name):
    assert PySCF.model_validate({"preset": name}) == PySCF.model_validate(PRESETS[name]())
    assert "Ethanol:" in PRESETS[name].__doc__


def test_a_single_level_is_short_for_its_stages():
    def stages(**short: object) -> list[str]:
        return [str(stage) for stage in PySCF.model_validate(short).stages]

    assert stages(method="hf", basis="cc-pVTZ") == ["DF-HF/cc-pvtz"]
    assert stages(method="mp2", basis="cc-pvtz") == ["DF-HF/cc-pvtz", "DF-MP2/cc-pvtz"]
    assert stages(method="ccsd(t)", basis="cc-pvtz") == ["HF/cc-pvtz", "CCSD(T)/cc-pvtz"]
    assert stages(method="dft", functional="PBE0", dispersion="d4", basis="def2-svp") == ["DF-PBE0-D4/def2-svp"]


@pytest.mark.parametrize(
    ("level", "complaint"),
    [
        ({"preset": "ccsdt-cb"}, "no preset 'ccsdt-cb'; did you mean 'ccsdt-cbs'?"),
        ({"preset": "dft", "method": "hf"}, "give one of method, preset"),
        ({"method": "hf"}, "basis: this key is missing"),
        ({"method": "dft", "basis": "def2-svp"}, "functional: 'dft' needs one"),
        ({"method": "hf", "basis": "x", "functional": "pbe"}, "no other method takes one"),
        ({"stages": [{"method": "hf", "bases": ["cc-pvdz", "aug-cc-pvtz"]}]}, "different families"),
        ({"stages": [{"method": "hf", "bases": ["def2-tzvp", "cc-pvqz"]}]}, "different families"),
        ({"stages": [{"method": "hf", "bases": ["6-31g", "6-311g"]}]}, "no cardinal number"),
        ({"stages": [{"method": "hf", "bases": ["cc-pvdz"], "exponent": 2.0}]}, "one basis is not extrapolated"),
        (
            {"stages": [{"method": "hf", "bases": ["cc-pvqz", "cc-pv5z"], "extrapolation": "exponential-sqrt"}]},
            "none is published for exponential-sqrt",
        ),
        (
            {
                "stages": [
                    {"method": "hf", "bases": ["x"]},
                    {"method": "mp2", "bases": ["cc-pvdz", "cc-pvtz", "cc-pvqz"]},
                ]
            },
            "three are for 'hf' alone",
        ),
        (
            {"stages": [{"method": "dft", "functional": "pbe", "bases": ["x"]}, {"method": "mp2", "bases": ["x"]}]},
            "'dft' stands alone",
        ),
    ],
)
def test_a_level_that_means_nothing_is_refused(level, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        parse_section(PySCF, level, "level.yaml")


def test_long_paths_are_shortened_before_what_is_said_of_them():
    path = f"/scratch/{'project/' * 30}frames.xyz"
    message = str(ConfigError(f"config.yaml: datasets.mine: {path}: frame 7 has no energy in '{path}'; say energy_key"))
    shown = f"...{path[-30:]}"
    assert message == f"config.yaml: datasets.mine: {shown}: frame 7 has no energy in '{shown}'; say energy_key"


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("losses.weak.pisc", {"weight": 1.0, "closing": "B to C"}, {"weight": 1.0, "closing": "B_to_C"}),
        ("losses.weak.pisc", {"weight": 1.0, "closing": "two routes"}, {"weight": 1.0, "closing": "two_routes"}),
        ("datasets.ammonia.selection", "farthest point", "farthest_point"),
    ],
)
def test_old_names_of_values_mean_what_they_meant_and_say_the_new_one(key, old, new):
    with pytest.warns(FutureWarning, match="now; the old name still works"):
        taken = parse_section(Experiment, edited(key, old), "test")
    assert taken == parse_section(Experiment, edited(key, new), "test")


def test_an_old_name_of_a_key_means_what_it_meant_unless_both_stand_there():
    with pytest.warns(FutureWarning, match="key 'isolated_atoms' is 'free_atoms' now"):
        taken = parse_section(Experiment, edited("datasets.ammonia.isolated_atoms", False), "test")
    assert not taken.datasets["ammonia"].free_atoms
    both = edited("datasets.ammonia.isolated_atoms", False)
    both["datasets"]["ammonia"]["free_atoms"] = True
    with pytest.raises(ConfigError, match="unknown key 'isolated_atoms'; did you mean 'free_atoms'"):
        parse_section(Experiment, both, "test")


def test_one_simulation_under_its_old_key_is_a_set_of_one():
    keys = {key: value for key, value in read_yaml(ROOT / "config.yaml").items() if key != "simulations"}
    with pytest.warns(FutureWarning, match="key 'simulation' is 'simulations: {NAME: ...}' now"):
        one = parse_section(Experiment, keys | {"simulation": {"temperature": 400.0, "time": 2.0}}, "config.yaml")
    assert list(one.simulations) == ["simulation"]
    assert one.first_simulation.temperatures == [400.0]
    none = parse_section(Experiment, keys | {"simulations": {}}, "config.yaml")
    assert none.first_simulation is None


def test_a_simulation_may_be_of_some_runs_alone():
    keys = read_yaml(ROOT / "config.yaml")
    simulations = {"short": {"time": 0.1}, "long": {"time": 9.0, "only": [{"model": "student"}, {"seed": [1]}]}}
    experiment = parse_section(Experiment, keys | {"simulations": simulations}, "config.yaml")
    for run in experiment.runs():
        long = run.model == "student" or run.seed == 1
        assert experiment.simulated(run) == ["short", *(["long"] if long else [])]
    # What is simulated, and how, is the same whichever runs are.
    assert "only" not in experiment.simulations["long"].beyond_defaults()
    # Students are of the larger size alone.
    simulations["long"]["only"].append({"model": "student", "size": 25})
    with pytest.raises(ConfigError, match=r"simulations.long.only.2: no run of the grid has .*25.*; leave it out"):
        parse_section(Experiment, keys | {"simulations": simulations}, "config.yaml")
