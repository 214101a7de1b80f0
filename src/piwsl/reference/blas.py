"""Which linear algebra library PySCF computes with. Its wheels bring one of 2018; a newer one is faster."""

from __future__ import annotations

import ctypes
import os

from piwsl.errors import PiwslError

VARIABLE = "PIWSL_BLAS"


def load_blas() -> None:
    """Load the library that the environment variable PIWSL_BLAS names (32-bit integers, as `libopenblas.so`), if any.

    Loaded into the global scope before PySCF, its symbols take the place of those of the library in PySCF's wheel.

    Raises:
        PiwslError: the file is no library that can be loaded, or has no matrix product.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        library.dgemm_  # noqa: B018  # looking the symbol up is the check
    except (OSError, AttributeError) as error:
        raise PiwslError(f"{VARIABLE}={path}: cannot be used as BLAS ({error}); name a library, or unset it") from None
    # One thread a process; other libraries follow OMP_NUM_THREADS.
    if hasattr(library, "openblas_set_num_threads"):
        library.openblas_set_num_threads(1)


def blas_name() -> str:
    """Return what PySCF computes with, for the records."""
    return os.environ.get(VARIABLE) or "of PySCF's wheel"
