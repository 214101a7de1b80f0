"""Where results lie, and what of the config a job depends on. No rules here."""

from functools import cache

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


@cache
def contents(*paths):
    """Return hashes of files of the user's: a copy may keep the time of what it copies, and be older than our results."""
    return [file_hash(path) for path in paths if path is not None and path.exists()]


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


def frames_wanted(wildcards):
    """Return how many frames a part has."""
    from piwsl.reference.planning import frames_wanted

    return frames_wanted(COMPUTED[wildcards.dataset], wildcards.part)


def candidates_of(wildcards):
    """Return the files that frames of a part are chosen from."""
    from piwsl.reference.planning import sources

    return [
        f"{DATA}/candidates/{wildcards.part}-{source}.xyz".format(
            dataset=wildcards.dataset
        )
        for source in sources(COMPUTED[wildcards.dataset])
    ]


def frames_of_source(wildcards):
    """Return how many frames a trajectory gives."""
    from piwsl.reference.planning import frames_of_source

    return frames_of_source(COMPUTED[wildcards.dataset], wildcards.part)


def candidates_each(wildcards):
    """Return among how many candidates each frame is chosen; None where they are taken as they come."""
    dataset = COMPUTED[wildcards.dataset]
    chosen = wildcards.part == "training" and dataset.selection == "farthest point"
    return dataset.candidates if chosen else None


def sampling_of(wildcards):
    """Return the sampling section as one trajectory sees it: the other temperatures are none of its business."""
    sampling = COMPUTED[wildcards.dataset].sampling.beyond_defaults()
    own = {key: value for key, value in sampling.items() if key != "normal_modes"}
    return own | {"temperatures": [float(wildcards.temperature)]}


def level_of(wildcards):
    """Return the level of a computed dataset, as plain values, defaults included."""
    return experiment.levels[COMPUTED[wildcards.dataset].level].plain()


def recipe_of(wildcards):
    """Return what the level comes to: if that changes, by a default too, its labels are made again."""
    from piwsl.reference.store import LabelStore

    return LabelStore(
        Path(LABEL_STORE), experiment.levels[COMPUTED[wildcards.dataset].level]
    ).folder.name


@cache
def batches_of(dataset):
    """Return every batch of frames of a dataset: (labels, number) to what the job does and needs."""
    from piwsl.reference.planning import label_batches, structures

    computed = COMPUTED[dataset]
    return label_batches(
        computed, structures(computed), experiment.levels[computed.level]
    )


def batch_of(wildcards):
    """Return the batch of a labelling job."""
    return batches_of(wildcards.dataset)[wildcards.labels, wildcards.batch]


def labelled(dataset, labels, suffix):
    """Return the files of all batches of some labels ("training", "test", "test-forces")."""
    return [
        f"{DATA}/labels/{kind}/{batch}{suffix}".format(dataset=dataset)
        for kind, batch in batches_of(dataset)
        if kind in labels
    ]


def pool_of(dataset):
    """Return the file of frames that are not labelled, if the dataset wants them."""
    wanted = COMPUTED[dataset].has_pool
    return [f"{DATA}/frames/pool.xyz".format(dataset=dataset)] if wanted else []


def isolated_atoms_of(dataset):
    """Return the file of the energies of free atoms, if the dataset wants them."""
    wanted = COMPUTED[dataset].isolated_atoms
    return [f"{DATA}/isolated-atoms.json".format(dataset=dataset)] if wanted else []


def growing(amount):
    """Return a resource that grows with the attempt."""
    return lambda wildcards, attempt: attempt * amount(wildcards)


def job_resources(wildcards):
    """Return what the training jobs of a model ask for."""
    return experiment.models[wildcards.model].resources


def all_results():
    """Return the files that users take away. Snakemake looks for those that are asked for by name, and for no others."""
    names = (
        "model.safetensors",
        "history.csv",
        "errors.json",
        "predictions.npz",
        "trajectory.xyz",
        "simulation.json",
    )
    datasets = sorted({run.dataset for run in RUNS})
    return [
        REPORT,
        f"{EXPERIMENT}/results.csv",
        *(f"{DATA}/dataset.h5".format(dataset=name) for name in datasets),
        *(run_path(run, name) for run in RUNS for name in names),
    ]
