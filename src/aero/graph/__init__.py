"""The graph: what a model computes, one position of a prompt after another, in a closed set of operations.

The contract between machine learning (which writes it, through `aero.compiler`) and cryptography (which runs it, in
`aero.engines`). A graph's structure is public; its weights belong to the server and travel apart from it.
"""

from aero.graph.graph import Graph, Node, Program, Programs
from aero.graph.interpret import interpret, interpret_step
from aero.graph.ops import OPS, Sheet

__all__ = ["OPS", "Graph", "Node", "Program", "Programs", "Sheet", "interpret", "interpret_step"]
