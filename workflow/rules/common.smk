"""Where results lie, and what of the config a job depends on. No rules here."""

from math import ceil

EXPERIMENT = f"results/{experiment.experiment}"
DATA = f"{EXPERIMENT}/datasets/{{dataset}}"
RUN = f"{EXPERIMENT}/{{dataset}}/{{model}}/{{loss}}/n{{size}}/seed{{seed}}"
LOGS = f"{EXPERIMENT}/logs"
BENCHMARKS = f"{EXPERIMENT}/benchmarks"
REPORT = f"{EXPERIMENT}/report.html"
# Shared by all experiments: a finished energy is never computed again.
LABEL_STORE = "results/labels"

RUNS = experiment.runs()
COMPUTED = {
    name: dataset
    for name, dataset in experiment.datasets.items()
    if isinstance(dataset, ComputedDataset)
}
GIVEN = {
    name: dataset
    for name, dataset in experiment.datasets.items()
    if isinstance(dataset, GivenDataset)
}


wildcard_constraints:
    dataset="[^/]+",
    model="[^/]+",
    loss="[^/]+",
    size="[0-9]+",
    seed="[0-9]+",


def one_of(names):
    """Return a wildcard constraint that admits these names alone."""
    import re

    return "|".join(re.escape(name) for name in names) or "(?!)"


def run_path(run, name):
    """Return a file of a run."""
    return f"{RUN}/{name}".format(**run.plain())


def run_of(wildcards):
    """Return the point of the grid that wildcards name, as plain values."""
    return {
        "dataset": wildcards.dataset,
        "model": wildcards.model,
        "loss": wildcards.loss,
        "size": int(wildcards.size),
        "seed": int(wildcards.seed),
    }


def frames_wanted(dataset, part):
    """Return how many frames of a part are to be labelled."""
    return dataset.training_frames if part == "training" else dataset.test_frames


def trajectories_of(wildcards):
    """Return the trajectories that frames of a part are taken from."""
    sampling = COMPUTED[wildcards.dataset].sampling
    return [
        f"{DATA}/trajectories/{wildcards.part}-{temperature:g}K.xyz".format(
            dataset=wildcards.dataset
        )
        for temperature in sampling.temperatures
    ]


def frames_per_trajectory(wildcards):
    """Return how many frames each temperature gives."""
    dataset = COMPUTED[wildcards.dataset]
    return ceil(
        frames_wanted(dataset, wildcards.part) / len(dataset.sampling.temperatures)
    )


def sampling_of(wildcards):
    """Return the sampling section as one trajectory sees it: the other temperatures are none of its business."""
    sampling = COMPUTED[wildcards.dataset].sampling.beyond_defaults()
    return sampling | {"temperatures": [float(wildcards.temperature)]}


def label_batches(dataset):
    """Return every batch of frames to label: (labels, number) to (frames of which part, start, stop)."""
    with_forces = dataset.test_force_frames
    spans = {
        "training": ("training", 0, dataset.training_frames),
        "test-forces": ("test", 0, with_forces),
        "test": ("test", with_forces, dataset.test_frames),
    }
    batches = {}
    for labels, (part, first, last) in spans.items():
        # A frame with forces by central differences is dozens of energies: a job of its own.
        step = 1 if labels == "test-forces" else dataset.labelling.frames_per_job
        for number, start in enumerate(range(first, last, step)):
            batches[labels, f"{number:05d}"] = (part, start, min(start + step, last))
    return batches


BATCHES = {name: label_batches(dataset) for name, dataset in COMPUTED.items()}


def batch_of(wildcards):
    """Return (part, start, stop) of a batch."""
    return BATCHES[wildcards.dataset][wildcards.labels, wildcards.batch]


def labelled(dataset, labels, suffix):
    """Return the files of all batches of some labels ("training", "test", "test-forces")."""
    return [
        f"{DATA}/labels/{kind}/{batch}{suffix}".format(dataset=dataset)
        for kind, batch in BATCHES[dataset]
        if kind in labels
    ]


def growing(amount):
    """Return a resource that grows with the attempt."""
    return lambda wildcards, attempt: attempt * amount(wildcards)


def job_resources(wildcards):
    """Return what the training jobs of a model ask for."""
    return experiment.models[wildcards.model].resources
