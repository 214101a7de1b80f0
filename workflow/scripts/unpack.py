from pathlib import Path

from piwsl.logs import logged_to

with logged_to(snakemake.log[0]):
    from piwsl.catalogue import source_of
    from piwsl.catalogue.download import unpack

    unpack(Path(snakemake.input.archive), [source_of(Path(snakemake.output.file))])
