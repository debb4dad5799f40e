"""AERO: language models made for private inference, and a two-party engine made for those models.

Importing `aero` is cheap and needs no torch; import the subpackage that you want:
`aero.models`, `aero.train`, `aero.compiler`, `aero.engines`, `aero.serve`.
"""

__version__ = "0.1.0"
