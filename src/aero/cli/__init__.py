"""The command line: one file per verb, assembled in `main`. The only part of aero that prints."""
