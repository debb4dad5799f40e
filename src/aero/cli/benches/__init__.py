"""The sub-verbs of `aero bench`, one in a file, and how they show records; `aero.cli.bench` lists them."""
