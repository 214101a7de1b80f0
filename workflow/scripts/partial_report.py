from pathlib import Path
from time import time

from piwsl.config import Experiment
from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.workflow.jobs import Jobs
    from piwsl.workflow.partial import write_partial_report
    from piwsl.workflow.status import status_of

    experiment = Experiment.model_validate(snakemake.params.experiment)
    jobs = Jobs(experiment, Path(snakemake.scriptdir))
    write_partial_report(jobs, status_of(jobs, time()))
