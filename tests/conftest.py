"""One thread a process, before anything counts the cores. What tests share is in helpers.py."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
