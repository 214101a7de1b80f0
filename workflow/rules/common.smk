"""What rules share: names of results and of jobs, and what wildcards may be. No rules here, and no logic."""

from piwsl.config.acquisition import round_name
from piwsl.workflow.contents import told
from piwsl.workflow.graph import measured
from piwsl.workflow.jobs import Jobs, growing, one_of, reading_time, run_of
from piwsl.workflow.layout import LABELLED, RECORDS, ROUND, named_test
from piwsl.workflow.origins import origin_of

jobs = Jobs(experiment, HERE / "workflow" / "scripts", told())
layout = jobs.layout
DATA, RUN = layout.dataset(), layout.run()


wildcard_constraints:
    dataset="[^/]+",
    model="[^/]+",
    loss="[^/]+",
    size="[0-9]+",
    seed="[0-9]+",
    round="[0-9]+",
    part="training|test|pool",
    simulation="[^/]+",
    test="[^/]+",
