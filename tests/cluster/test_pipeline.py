"""The pipeline on a real SLURM, through the profile; and training that is interrupted again and again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import yaml
from ase import Atoms
from ase.build import molecule
from ase.calculators.morse import MorsePotential
from safetensors.torch import load_file
from workflows import PATIENCE_SECONDS, Workflow, queue, running, until, was_put_back

from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss, Run, Training
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.models.storage import read_header
from piwsl.structures.frames import label
from piwsl.training.run import train_run

ROOT = Path(__file__).parent.parent.parent
SHORT = {
    "experiment": "short",
    "levels": {"hf": {"method": "hf", "basis": "sto-3g", "density_fitting": False}},
    "datasets": {
        "water": {
            "molecule": {"name": "H2O"},
            "sampling": {"temperatures": [300], "stride": 10, "equilibration": 20},
            "level": "hf",
            "training_frames": 8,
            "test_frames": 4,
            "test_force_frames": 2,
            "labelling": {"frames_per_job": 4},
        }
    },
    "models": {
        "painn": {
            "architecture": "painn",
            "features": 8,
            "layers": 1,
            "training": {"steps": 20},
            "resources": {"runtime": 20},
        }
    },
    "losses": {"supervised": {}, "weak": {"pitc": {"weight": 0.1, "order": 2}}},
    "sizes": [8],
    "seeds": [0],
    "simulations": {"nvt": {"time": 0.01}},
}
TRAINING_JOB = """
import sys
sys.path.insert(0, {tests!r})
from test_pipeline import trained
from pathlib import Path
trained(Path("dataset.h5"), Path(sys.argv[1]))
"""


def uncommented(profile: str, lines: str) -> str:
    """Take away the comment signs before lines of the profile."""
    assert lines in profile
    return profile.replace(lines, lines.replace("# ", ""))


def on_gpus(profile: str) -> str:
    """Name the GPU partition, and ask for a GPU that the training need not use."""
    lines = '# set-resources:\n#   train:\n#     slurm_partition: "gpu"\n'
    own = lines.replace("# ", "")
    return uncommented(profile, lines).replace(own, own + '    slurm_extra: "--gres=gpu:1"\n')


def check_out(workflow: Workflow) -> None:
    """Put the workflow of this checkout and a short experiment into a folder."""
    for name in ("workflow", "envs", "slurm"):
        shutil.copytree(ROOT / name, workflow.folder / name)
    shutil.copy(ROOT / "Snakefile", workflow.folder)
    (workflow.folder / "profiles").symlink_to("workflow/profiles")
    (workflow.folder / "config.yaml").write_text(yaml.safe_dump(SHORT))


def without_a_gpu(workflow: Workflow) -> None:
    """Let trainings that ask for a GPU learn on the CPU: those of SLURM's node are none."""
    script = workflow.folder / "workflow" / "scripts" / "train.py"
    asked, text = "gpus = snakemake.resources.gpu\n", script.read_text()
    assert asked in text
    script.write_text(text.replace(asked, "gpus = 0\n"))


def pack_trainings(workflow: Workflow) -> None:
    """Say in config and profile what the documentation says of several trainings on one GPU."""
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
    for name in ("config.yaml", "slurm/config.yaml"):
        (block,) = re.findall(rf"```yaml\n# {name}\n(.*?)```", page, re.DOTALL)
        path, documented = workflow.folder / name, yaml.safe_load(block)
        content = yaml.safe_load(path.read_text())
        if models := documented.pop("models", None):
            content["models"]["painn"]["resources"] |= models["painn"]["resources"]
        path.write_text(yaml.safe_dump(content | documented))


def jobs_of(workflow: Workflow, name: str) -> list[str]:
    """Return what SLURM's accounts say of the jobs of a name, of this folder: partition, state, resources."""
    answer = subprocess.run(
        ["sacct", "-X", "-n", "-P", "-S", "now-1hours", "-o", "JobName,Partition,State,AllocTRES,WorkDir"],
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = [line for line in answer.splitlines() if line.endswith(f"|{workflow.folder}")]
    return [line.removeprefix(f"{name}|") for line in lines if line.startswith(f"{name}|")]


def completed(workflow: Workflow, name: str, count: int) -> list[str]:
    """Wait until SLURM's accounts say that all of so many jobs of a name have ended well; return what they say."""
    until(
        lambda: [line.split("|")[1] for line in jobs_of(workflow, name)] == ["COMPLETED"] * count,
        f"{count} completed jobs {name}",
    )
    return jobs_of(workflow, name)


def through_profile(*arguments: str) -> list[str]:
    """Return the command that runs Snakemake through the profile of a folder."""
    patience = ["--seconds-between-status-checks", "2", "--latency-wait", "15"]
    return [sys.executable, "-m", "snakemake", "--profile", "slurm", *arguments, *patience]


def run_profile(workflow: Workflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake through the profile of a folder."""
    command = through_profile(*arguments)
    return subprocess.run(command, cwd=workflow.folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def learning_rate_of(model: Path) -> float:
    """Return what a model was trained with, by its header."""
    rate = read_header(model)["config"]["training"]["learning_rate"]
    assert isinstance(rate, float)
    return rate


def test_the_whole_chain_goes_through_the_profile(workflow):
    check_out(workflow)
    profile = workflow.folder / "slurm" / "config.yaml"
    profile.write_text(on_gpus(profile.read_text()))
    without_a_gpu(workflow)
    plan = run_profile(workflow, "--dry-run")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    done = run_profile(workflow)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(workflow.folder / "results" / "short" / "snakemake.zip") as report:
        assert any(name.endswith("report.html") for name in report.namelist())
    results = pd.read_csv(workflow.folder / "results" / "short" / "results.csv")
    assert len(results) == 2
    assert (workflow.folder / "results" / "short" / "report.html").stat().st_size > 10_000
    training = completed(workflow, "train", 2)
    assert all(line.startswith("gpu|") and "gres/gpu=1" in line for line in training), training
    assert any(line.startswith("cpu|") for line in jobs_of(workflow, "label"))
    # A second run has nothing to do, and asks SLURM for nothing.
    again = run_profile(workflow)
    assert "Nothing to be done" in again.stdout + again.stderr
    # Four more trainings share a job and its GPU.
    pack_trainings(workflow)
    config = workflow.folder / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"seeds": [0, 1, 2]}))
    runs = (f"results/short/water/painn/{loss}/n8/seed{seed}" for loss in SHORT["losses"] for seed in (1, 2))
    models = [f"{run}/model.safetensors" for run in runs]
    done = run_profile(workflow, *models)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((workflow.folder / model).exists() for model in models)
    (packed,) = completed(workflow, "training_train", 1)
    assert packed.startswith("gpu|")
    assert {"gres/gpu=1", "cpu=4", "mem=16000M"} <= set(packed.split("|")[2].split(",")), packed
    assert len(jobs_of(workflow, "train")) == 2


def test_a_model_that_its_job_trained_alone_is_not_taken_for_that_of_a_config_edited_since(workflow):
    check_out(workflow)
    run = "results/short/water/painn/supervised/n8/seed0"
    model, config = workflow.folder / run / "model.safetensors", workflow.folder / "config.yaml"
    with (workflow.folder / "output").open("w") as output:
        process = subprocess.Popen(
            through_profile(f"{run}/model.safetensors"), cwd=workflow.folder, stdout=output, stderr=output
        )
    until(lambda: any("|RUNNING|" in line for line in jobs_of(workflow, "train")), "training that runs")
    process.kill()
    process.wait()
    until(lambda: model.exists() and not queue(), "model that was trained alone")
    before = learning_rate_of(model)
    edited = yaml.safe_load(config.read_text())
    edited["models"]["painn"]["training"]["learning_rate"] = 2 * before
    config.write_text(yaml.safe_dump(edited))
    assert run_profile(workflow, "--unlock").returncode == 0
    done = run_profile(workflow, f"{run}/errors.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert learning_rate_of(model) == 2 * before


def frames(count: int) -> list[Atoms]:
    found = []
    for number in range(count):
        atoms = molecule("NH3")
        atoms.rattle(0.05, seed=number)
        atoms.calc = MorsePotential(epsilon=1.0, r0=1.1, rho0=2.0, rcut1=8.0, rcut2=9.0)
        found.append(label(atoms, atoms.get_potential_energy(), None))
    return found


def trained(dataset: Path, folder: Path) -> Path:
    """Train a small model; twenty seconds of work, of which three interruptions leave some."""
    folder.mkdir(exist_ok=True)
    training = Training(steps=3000, validate_every=50, batch_size=4)
    model = PaiNN(architecture="painn", cutoff=4.0, features=16, layers=2, radial=8, training=training)
    point = Run(dataset="d", model="m", loss="l", size=20, seed=0)
    train_run(dataset, point, model, Loss(), folder / "model.safetensors", folder / "history.csv")
    return folder / "model.safetensors"


# One in a job of its own, and two that share another.
TRAININGS = """
rule all:
    input: expand("{{n}}.done", n=["own", "shared0", "shared1"])
rule train:
    output: "own.done"
    resources: mem_mb=2000, runtime=30
    shell: "{python} train.py own && touch {{output}}"
rule train_shared:
    output: "shared{{n}}.done"
    resources: mem_mb=2000, runtime=30
    shell: "{python} train.py shared{{wildcards.n}} && touch {{output}}"
"""


def test_trainings_that_are_interrupted_three_times_end_with_the_same_weights(workflow):
    dataset = workflow.folder / "dataset.h5"
    write_dataset(dataset, {TRAINING: frames(20), TEST: frames(2)})
    (workflow.folder / "train.py").write_text(TRAINING_JOB.format(tests=str(Path(__file__).parent)))
    workflow.write(TRAININGS.format(python=sys.executable))
    workflow.start("--groups", "train_shared=training", "--group-components", "training=2")
    seen: set[Path] = set()

    def checkpoints() -> set[Path]:
        return set(workflow.folder.glob("*/checkpoints/*.ckpt"))

    for times in (1, 2, 3):
        until(
            lambda: len(running()) == 2 and len({path.parts[-3] for path in checkpoints() - seen}) == 3, "checkpoints"
        )
        jobs = running()
        subprocess.run(["scontrol", "requeue", ",".join(jobs)], check=True)
        until(lambda jobs=jobs, times=times: all(was_put_back(job, times) for job in jobs), "end of the jobs")
        seen.update(checkpoints())
    code, output = workflow.wait()
    assert code == 0, output
    os.environ["OMP_NUM_THREADS"] = "1"
    alone = load_file(trained(dataset, workflow.folder / "alone"))
    for member in ("own", "shared0", "shared1"):
        interrupted = load_file(workflow.folder / member / "model.safetensors")
        assert alone.keys() == interrupted.keys()
        assert all(alone[key].numpy().tobytes() == interrupted[key].numpy().tobytes() for key in alone)
    logs = list((workflow.folder / ".snakemake" / "submitit" / "logs").glob("*/*.log"))
    assert len(logs) == 2
    assert all("training was stopped by SIGTERM at step" in log.read_text() for log in logs)
    assert sum(log.read_text().count("training was stopped by SIGTERM at step") for log in logs) >= 3
