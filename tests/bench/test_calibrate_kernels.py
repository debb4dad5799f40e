"""Calibration of our own kernels: what samples determine is found, and every kernel that is declared is measured."""

import numpy as np

from aero.bench import calibrate_kernels
from aero.bench.calibrate_kernels import _fitted, calibrate_two_party
from aero.cost.machine import Machine, load_machine
from aero.kernels import native


def test_units_are_found_from_samples():
    rng = np.random.default_rng(0)
    units = {"a": 3e-6, "b": 2e-9, "c": 0.0}
    works = [{"a": int(n), "b": int(m), "c": 5} for n, m in rng.integers(1, 10**4, (20, 2))]
    samples = [(work, sum(n * units[name] for name, n in work.items())) for work in works]
    found = _fitted(samples)
    np.testing.assert_allclose([found[name] for name in units], list(units.values()), rtol=1e-6, atol=1e-12)
    assert _fitted(samples, {"a": 3e-6}).keys() == {"b", "c"}


def test_no_unit_is_below_zero():
    """What grows with a while the seconds fall: a is left out."""
    samples = [({"a": a, "b": 1}, 2.0 - a / 10) for a in range(1, 6)]
    found = _fitted(samples)
    assert found["a"] == 0 < found["b"]


def test_every_kernel_is_measured(monkeypatch):
    """On the smallest of what calibration measures: as many units as a machine that comes with aero has."""
    monkeypatch.setattr(calibrate_kernels, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(calibrate_kernels, "_WIDTH", 64)
    labels: list[str] = []
    machine = calibrate_two_party("mine", lambda label, share: labels.append(label))
    assert machine.level == native.level() and min(machine.units.values()) >= 0
    assert set(machine.units) == set(load_machine("portable").units)
    assert Machine.from_json(machine.to_json()) == machine and len(set(labels)) > 5
