"""How often Snakemake looks for jobs to start."""

from __future__ import annotations

from typing import Any

# Jobs a second: what Snakemake allows where nobody says another number.
DEFAULT_RATE = 100


def look_once_a_change(workflow: Any) -> None:
    """Have Snakemake look for jobs to start when one ends or becomes ready, and at no other times.

    Under a limit on jobs a second, each look while some wait makes it look again a second later (Snakemake 9.27). As
    each job that ends adds one, after hundreds of them these looks take a core from the jobs. On one machine cores
    limit what starts, and our executor submits at once what is ready. A limit below the default is meant, and stays.

    Args:
        workflow: of Snakemake, that is about to start.
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter is not None and limiter.max_jobs >= DEFAULT_RATE * limiter.timespan:
        workflow.scheduler.job_rate_limiter = None
