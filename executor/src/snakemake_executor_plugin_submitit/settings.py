"""What can be set of the executor, and what Snakemake is told of it."""

from dataclasses import dataclass, field
from pathlib import Path

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

CLUSTERS = ("slurm", "local", "debug")


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """What can be set, as `--submitit-...` or in a profile. Snakemake reads the types of the fields."""

    cluster: str = field(
        default="slurm", metadata={"help": "Where to submit: slurm, local (processes here) or debug (inline)."}
    )
    array_size: int = field(
        default=500, metadata={"help": "Most jobs of one array; the cluster's own limit counts too.", "type": int}
    )
    group_cpus: int = field(
        default=4,
        metadata={"help": "CPUs of a group's job: so many of its members run at a time as fit them.", "type": int},
    )
    group_gpu_mem_mb: int = field(
        default=0,
        metadata={
            "help": "Memory of a GPU, MB: members of a group that say gpu_mem_mb share one as they fit; 0: none do.",
            "type": int,
        },
    )
    requeues: int = field(
        default=10, metadata={"help": "How often a job may reach its time limit and be put back.", "type": int}
    )
    signal_delay: int = field(
        default=90,
        metadata={"help": "Seconds before its time limit that a job is told to save its state.", "type": int},
    )
    folder: Path = field(
        default=Path(".snakemake/submitit"),
        metadata={"help": "On a file system that nodes share: job files, notes and logs.", "type": Path},
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    # Handed to the job as they are: no shell reads them.
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=2,
)
