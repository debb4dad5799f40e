"""Predicted memory against peaks that were measured."""

from dataclasses import replace

import pytest

from aero.compiler.architecture import outline
from aero.cost.memory import memory
from aero.engines.planning.step_plans import checked_schedule
from aero.models.notation import parse
from aero.models.presets import SIZES

MEASURED = [  # by `aero bench forward`, on Linux x86-64
    ("demo", "SM+LN+G", 64, 127e6, 173e6),
    ("nano", "SM+LN+G", 128, 192e6, 286e6),
    ("gpt2-small", "SM+ScFuFFN", 128, 188e6, 1320e6),
]


def predicted(preset, notation, length):
    found = outline(parse(notation), replace(SIZES[preset], context=length))
    return memory([checked_schedule([found.programs.prefill(length).graph], found.plan)])


@pytest.mark.parametrize(("preset", "notation", "length", "client", "server"), MEASURED)
def test_peaks_are_predicted(preset, notation, length, client, server):
    found = predicted(preset, notation, length)
    assert found.client == pytest.approx(client, rel=0.15)
    assert found.server == pytest.approx(server, rel=0.15)


def test_a_matrix_is_counted_once_and_its_transforms_apart():
    """2 or 3 bytes for each number of Llama 3.2 1B, whose vocabulary is a table and a matrix (the checkpoint: 1.24e9
    parameters with one of them)."""
    found = predicted("llama-3.2-1b", "SM+RMS+SiLU+GaFFN", 8)
    vocabulary = 128_256 * 2048
    layers = 1.2358e9 - vocabulary
    assert 2 * (layers + 2 * vocabulary) < found.numbers < 3.2 * (layers + 2 * vocabulary)
    assert found.server - found.numbers - found.transforms < 0.5e9
