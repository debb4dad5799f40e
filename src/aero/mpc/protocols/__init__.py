"""Interactive protocols on shares, each with its steps in the docstring and its cost declared beside it."""
