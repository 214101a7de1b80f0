import os
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version

from piwsl.config import read_yaml
from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.files import file_hash, refusal
from piwsl.preflight import (
    check_image,
    check_plan,
    check_start,
    claim,
    config_file,
    costly_datasets,
    plan_of,
)
from piwsl.reference.potentials import TRUSTED, trusted_with
from piwsl.workflow.contents import PLANNED
from piwsl.workflow.planned import parse_experiment
from piwsl.workflow.presence import join
from piwsl.workflow.scheduling import look_once_a_change
from piwsl.workflow.snakemake_report import write_snakemake_report

min_version("9.0")

# Of this Snakefile, also where its rules are a module of another.
HERE = Path(workflow.current_basedir.get_path_or_uri(secret_free=False))
rule_files = sorted((HERE / "workflow" / "rules").glob("*.smk"))
# Of what envs/piwsl.def describes.
IMAGE = HERE / "envs" / "piwsl.sif"
in_containers = (
    DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
)

try:
    if workflow.modifier.skip_configfile:
        # These rules are a module of another workflow, which hands over keys and values.
        config_name, keys = os.path.relpath(workflow.main_snakefile), config
    else:
        # Read by our reader, and before Snakemake's where that is not told by --configfile to read it first.
        settings = workflow.config_settings
        config_name = str(config_file(settings.configfiles, settings.config))
        keys = read_yaml(Path(config_name))
    experiment = parse_experiment(keys, config_name)
    plan = plan_of(
        keys, [Path(workflow.main_snakefile), HERE / "Snakefile", *rule_files]
    )
    if workflow.is_main_process:
        join()
        if in_containers:
            check_image(IMAGE)
        with naming_extras():
            check_start(experiment, config_name)
        for line in costly_datasets(experiment):
            print(f"warning: {config_name}: {line}", file=sys.stderr)
    else:
        check_plan(plan, os.environ.get("PIWSL_PLAN", plan))
except (PiwslError, OSError) as error:
    sys.exit(f"error: {refusal(error) or error}")


# What jobs on other machines are told. PIWSL_HOME is named by envs/piwsl.yaml, so that conda environments install this
# checkout.
os.environ["PIWSL_HOME"] = str(HERE)
os.environ["PIWSL_PLAN"] = plan
os.environ[TRUSTED] = trusted_with(experiment.levels.values())
# Filled once the jobs are planned. A Snakemake that was started within a job of another's plans by itself.
if workflow.is_main_process:
    os.environ[PLANNED] = "{}"
os.environ.setdefault(PLANNED, "{}")


envvars:
    "PIWSL_HOME",
    "PIWSL_PLAN",
    PLANNED,
    TRUSTED,


# Named only where it is used: Snakemake's report would say that every result was made in it.
if in_containers:

    container: str(IMAGE)


# The jobs are told of it. --configfile stands alone: merged with the default it would add its datasets to ours.
if not workflow.configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/downloads.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/acquisition.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/test_sets.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/simulation.smk"
include: "workflow/rules/frequencies.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    download,
    frequencies,
    partial_report,
    unpack,


rule all:
    default_target: True
    input:
        jobs.results(),
    message:
        "All results are made"


rule frequencies:
    input:
        [layout.run(run).frequencies for run in jobs.runs],
        jobs.frequencies_of_levels(),
    message:
        "Minima and vibrations of all models are found"


onstart:
    claim(experiment, config_name)
    jobs.contents.tell()
    look_once_a_change(workflow)
    if set(workflow.dag_settings.targets) == {"partial_report"}:
        # It may stand beside a Snakemake that runs, whose lock would be taken away at the end of this one.
        workflow.persistence.unlock = lambda: None


onsuccess:
    partial = set(workflow.dag_settings.targets) == {"partial_report"}
    written = Path(layout.partial_report if partial else layout.report)
    made = {str(path) for job in workflow.dag.jobs for path in job.output}
    if written.exists():
        print(f"The report is at {written.resolve()}", file=sys.stderr)
        if not workflow.local_exec and layout.report in made:
            write_snakemake_report(workflow, Path(layout.snakemake_report))
    elif partial:
        print(
            "There is nothing to report yet; piwsl status says more",
            file=sys.stderr,
        )
