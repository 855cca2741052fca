import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.models import noise, philox

int64 = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(st.tuples(int64, int64), min_size=1, max_size=3),
    seed=st.integers(0, 2**64 - 1),
    n_draws=st.integers(1, 4),
    n_pixels=st.integers(1, 30),
)
def test_words_are_numpy_s(keys: list[tuple[int, int]], seed: int, n_draws: int, n_pixels: int) -> None:
    n_words = (n_pixels + 1) // 2
    tensors = torch.tensor(keys, dtype=torch.int64), 66, torch.tensor(philox.signed(seed))
    words = philox.words(*tensors, n_draws, n_words).numpy().view(np.uint64)
    assert words.shape == (len(keys), n_draws, n_words)
    for row, (obsid, lmjm) in enumerate(keys):
        for draw in range(n_draws):
            expected = noise.stream(obsid, lmjm, 66, draw, seed).random_raw(n_words)
            np.testing.assert_array_equal(words[row, draw], expected)
    found = philox.normal(*tensors, n_draws, n_pixels).numpy()
    # Logarithms and sines may differ in the last place.
    np.testing.assert_allclose(found, noise.normal(np.array(keys), 66, seed, n_draws, n_pixels), atol=2e-6)
