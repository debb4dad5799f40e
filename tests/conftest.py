"""For every test: quiet libraries, one thread for each process, no deadlines. For the whole suite: all cores."""

import os

import hypothesis
import pytest

from aero.cli.main import ENVIRONMENT

# Libraries are as quiet as in a process of `aero`: they read the environment when they are imported. Tests run beside
# each other, a process for each core: threads of a process, or of those that it starts, would only wait for each other.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
for name, value in {**ENVIRONMENT, **THREADS}.items():
    os.environ.setdefault(name, value)

# A loaded machine is no error.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs on all cores where pytest-xdist is installed; files that are named, in this process.

    What one core has not begun when another is idle goes there: neighbours, which share fixtures, stay together.
    """
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput")
    if whole and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses, config.option.dist = "auto", "worksteal"
