"""From geometries to labelled frames: sampling, levels of theory, the store of labels. Needs PySCF, not torch."""
