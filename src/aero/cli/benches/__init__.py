"""The sub-verbs of `aero bench`, one in a file; `aero.cli.bench` lists them."""
