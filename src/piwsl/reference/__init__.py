"""Reference energies: geometries, levels of theory, labels. Needs PySCF, not torch."""

from piwsl.reference.blas import load_blas

# Before the first import of PySCF, which brings a linear algebra library of its own.
load_blas()
