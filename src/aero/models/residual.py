"""The layers that write to the residual stream."""

from torch import nn


class ResidualLinear(nn.Linear):
    """A linear layer whose output is added to the residual stream. 2L of them add up, so each starts 1/sqrt(2L) as
    large as others (Radford et al. 2019, §2.3); apart from that it is nn.Linear.
    """
