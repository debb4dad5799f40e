"""Engines: what can run a graph. Each is one party's view of a computation; `aero.engines.engine` is the interface."""
