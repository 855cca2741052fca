"""Tiles: how many spectra are computed together, always.

Kernels choose their order of summation by the shape of their operands. Batches are therefore cut into tiles of one
height, and the last is filled up, so that a spectrum's bits do not depend on how many others came with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TILE = 64
"""Spectra of a tile."""


def tiles(rows: int) -> Iterator[slice]:
    """The rows of each tile of a batch, the last of which may be fewer."""
    for start in range(0, rows, TILE):
        yield slice(start, min(start + TILE, rows))


def filled(tile: Tensor) -> Tensor:
    """A tile of full height: its last row repeated, and in one layout of memory whatever the rows came in.

    Parameters
    ----------
    tile
        (spectrum, pixel), of one spectrum to :data:`TILE`.

    Returns
    -------
    Tensor
        (TILE, pixel), contiguous.
    """
    missing = TILE - tile.shape[0]
    return tile.contiguous() if missing == 0 else torch.cat([tile, tile[-1:].expand(missing, -1)])
