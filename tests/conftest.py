"""What holds for every test: quiet libraries, one thread for each process, no deadlines."""

import os

import hypothesis

from aero.cli.main import ENVIRONMENT

# Libraries are as quiet as in a process of `aero`: they read the environment when they are imported. Tests run beside
# each other, a process for each core: threads of a process, or of those that it starts, would only wait for each other.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
for name, value in {**ENVIRONMENT, **THREADS}.items():
    os.environ.setdefault(name, value)

# A loaded machine is no error.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
