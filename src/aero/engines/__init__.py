"""What can run a graph: each engine is one party's view of a computation; `aero.engines.engine` is the interface."""
