"""What both ways of looking rows up privately have in common: `embedding.py` and `grouped_embedding.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from aero.mpc.plan import KeyKinds, Plan
from aero.mpc.protocols.linear import LinearPlan
from aero.mpc.share import Share

Table = TypeVar("Table")
"""As the server brings it."""


@dataclass(frozen=True)
class LookUp(Plan[[int, NDArray[np.int64] | None, Table | None], Share], Generic[Table]):
    """Rows of a table that the client chooses. tokens: T; rows: V; columns: d; product: of one-hot rows with the table,
    or a part of it."""

    tokens: int
    rows: int
    columns: int
    product: LinearPlan

    @property
    def positions(self) -> int:
        """R, of a one-hot row."""
        return self.product.product.inner

    @property
    def output_bits(self) -> int:
        return self.product.product.output_bits

    @property
    def client_keys(self) -> KeyKinds:
        return self.product.client_keys

    @property
    def server_keys(self) -> KeyKinds:
        return self.product.server_keys

    def check(self, fraction_bits: int, ids: NDArray[np.int64] | None = None, table: Table | None = None) -> None:
        """The client gives int64 ids [T] below V, the server the table, loaded for this plan."""
        if ids is not None:
            self.wanted(ids)

    def wanted(self, ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The client's ids. ValueError without them, and for others than `check` says."""
        if ids is None or not (ids.shape == (self.tokens,) and ((ids >= 0) & (ids < self.rows)).all()):
            raise ValueError(f"the client gives {self.tokens} ids from 0 to {self.rows - 1}")
        return ids

    @property
    def one_for_each_row(self) -> int:
        """Of one row tile, how many of the client's messages are not zero: `nonzero` of `weight_noise`."""
        return min(self.product.product.rows, self.product.product.d0)
