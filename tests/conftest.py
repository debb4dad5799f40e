"""Libraries are as quiet as in a process of `aero`: they read the environment when they are imported."""

import os

from aero.cli.main import ENVIRONMENT

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
