"""How far shares are from uniform."""

import numpy as np

LIMIT = 15 + 8 * np.sqrt(30)  # 15 degrees of freedom


def uneven(values: np.ndarray, bits: int) -> float:
    """Chi squared of the top four bits against uniform ones."""
    counts = np.bincount((values >> np.uint64(bits - 4)).reshape(-1).astype(np.int64), minlength=16)
    expected = values.size / 16
    return float(((counts - expected) ** 2 / expected).sum())
