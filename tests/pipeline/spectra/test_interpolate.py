from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline.spectra.interpolate import Places


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 30))
def test_equals_numpy(seed: int, size: int, asked: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0.0, 10.0, (3, size)), axis=1)
    y = rng.normal(size=(3, size))
    x_new = rng.uniform(-1.0, 11.0, (3, asked))
    ours = Places(torch.from_numpy(x), torch.from_numpy(x_new))(torch.from_numpy(y)).numpy()
    for row in range(3):
        expected = np.interp(x_new[row], x[row], y[row], left=np.nan, right=np.nan)
        np.testing.assert_allclose(ours[row], expected, rtol=1e-9, atol=1e-12)


def test_equal_abscissae_and_ends() -> None:
    x = torch.tensor([[0.0, 1.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 10.0, 20.0, 30.0, torch.nan]], dtype=torch.float64)
    at = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 4.0], dtype=torch.float64)
    result = Places(x, at)(y)[0]
    assert result[:3].tolist()[1:] == [0.0, 5.0]
    assert result[3].item() in (10.0, 20.0)
    assert result[4:6].tolist() == [25.0, 30.0]
    assert result[[0, 6, 7]].isnan().all()


def test_places_serve_several_quantities() -> None:
    x = torch.arange(5, dtype=torch.float64)[None]
    places = Places(x, torch.tensor([0.5, 3.25], dtype=torch.float64))
    assert places(x).tolist() == [[0.5, 3.25]]
    assert places(x * 2).tolist() == [[1.0, 6.5]]


def test_rows_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match="n of 2 at least"):
        Places(torch.zeros(1, 1), torch.zeros(1))
