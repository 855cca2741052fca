from __future__ import annotations

import numpy as np
import pytest
import torch

from twinlines.pipeline.spectra.tiles import TILE, filled, tiles


@pytest.mark.parametrize("rows", [0, 1, TILE - 1, TILE, TILE + 1, 3 * TILE])
def test_tiles_hold_every_row_once(rows: int) -> None:
    parts = [np.arange(rows)[tile] for tile in tiles(rows)]
    assert np.concatenate([np.empty(0, int), *parts]).tolist() == list(range(rows))
    assert all(0 < len(part) <= TILE for part in parts)
    assert all(len(part) == TILE for part in parts[:-1])


@pytest.mark.parametrize("rows", [1, TILE - 1, TILE])
def test_a_tile_is_filled_up_with_its_last_row(rows: int) -> None:
    values = torch.arange(float(3 * rows)).view(3, rows).T  # not contiguous
    tile = filled(values)
    assert tile.shape == (TILE, 3)
    assert tile.is_contiguous()
    assert torch.equal(tile[:rows], values)
    assert (tile[rows:] == values[-1]).all()
