import os
import sys
from pathlib import Path

from snakemake.utils import min_version

from piwsl.config import ComputedDataset, Experiment, GivenDataset, parse_section
from piwsl.errors import PiwslError
from piwsl.preflight import check_claim, check_experiment, check_plan, claim, plan_of

min_version("9.0")


# --configfile stands alone: merged with the default experiment it would add its datasets to ours.
if not workflow.configfiles:

    configfile: "config.yaml"


# Named by envs/piwsl.yaml, so that conda environments install this checkout.
os.environ["PIWSL_HOME"] = workflow.basedir

config_name = os.path.relpath(workflow.configfiles[-1])
rule_files = sorted(Path(workflow.basedir, "workflow", "rules").glob("*.smk"))

try:
    experiment = parse_section(Experiment, config, config_name)
    plan = plan_of(config, [Path(workflow.main_snakefile), *rule_files])
    if workflow.is_main_process:
        os.environ["PIWSL_PLAN"] = plan
    check_plan(plan, os.environ.get("PIWSL_PLAN", plan))
    if workflow.is_main_process:
        check_experiment(experiment, config_name)
        check_claim(experiment, config_name)
except PiwslError as error:
    sys.exit(f"error: {error}")


# What jobs on other machines are told.
envvars:
    "PIWSL_HOME",
    "PIWSL_PLAN",


include: "workflow/rules/common.smk"
include: "workflow/rules/reference.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/simulation.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        all_results(),
    message:
        "All results are made"


onstart:
    claim(experiment, config_name)


onsuccess:
    if Path(REPORT).exists():
        print(f"The report is at {Path(REPORT).resolve()}", file=sys.stderr)
