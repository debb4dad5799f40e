"""Measured pieces of work: how they are timed, recorded and shown."""
