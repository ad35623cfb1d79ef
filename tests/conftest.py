"""What all tests share: one thread a process (pytest-xdist runs several), and property tests that repeat exactly."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("snowmelt", deadline=None, derandomize=True, database=None)
settings.load_profile("snowmelt")
