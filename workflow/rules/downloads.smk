"""Published sets, from their addresses into results/downloads, which all experiments of a folder share.

Both rules are local: nodes of a cluster may not reach the network.
"""

from piwsl.catalogue import DOWNLOADS


rule download:
    output:
        file=f"{DOWNLOADS}/{{published}}",
    log:
        layout.log("download/{published}"),
    wildcard_constraints:
        published=one_of(jobs.downloaded()),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=1440,
    params:
        address=lambda wildcards: jobs.published[wildcards.published].address,
    message:
        "Downloading {params.address}"
    script:
        "../scripts/download.py"


rule unpack:
    input:
        # Whenever it was downloaded: what depends on its address stands below.
        archive=lambda wildcards: ancient(
            str(jobs.published[wildcards.published].archive)
        ),
    output:
        file=f"{DOWNLOADS}/{{published}}",
    log:
        layout.log("unpack/{published}"),
    wildcard_constraints:
        published=one_of(jobs.unpacked()),
    conda:
        "../../envs/piwsl.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        member=lambda wildcards: jobs.published[wildcards.published].identity,
    message:
        "Unpacking {output.file} from {input.archive}"
    script:
        "../scripts/unpack.py"
