"""Measurements of this machine, one kind of work in a file."""
