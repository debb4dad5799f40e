"""What a decoder is made of: names, shapes and operations, from a configuration; no weights and no torch."""

from aero.structure.decoder import Decoder, lowered

__all__ = ["Decoder", "lowered"]
