"""What decoders and encoders are made of: names, shapes and operations, from a configuration; no weights and no
torch."""

from aero.structure.decoder import Decoder, lowered
from aero.structure.encoder import Encoder

__all__ = ["Decoder", "Encoder", "lowered"]
