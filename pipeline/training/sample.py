"""A training set's pairs in memory, for whoever wants to look at a few."""

from __future__ import annotations

import xarray as xr

from twinlines.models.threads import one_thread
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.training.recipe import SynthesisError, TrainingSet, select
from twinlines.pipeline.training.store import columns_of, shards_of

MOST_PAIRS = 16384
"""Pairs beyond which a store is asked for: about a gigabyte."""


@one_thread()
def synthesize(pairs: int | TrainingSet, *, seed: int = 0) -> xr.Dataset:
    """Synthesise pairs of a single star and a binary: those that a training set of this recipe begins with.

    Parameters
    ----------
    pairs
        How many, by the paper's Table 1 and what is added to it; or a recipe,
        :class:`twinlines.pipeline.training.recipe.TrainingSet`, with priors, tracks and library of its own.
    seed
        Seed of draws, noise and splits; a recipe has its own.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.PAIRS`: both stars' parameters, and noisy flux over continuum of either
        arm, (pair, kind, pixel), where kind is "single" or "binary".

    Raises
    ------
    SynthesisError
        If there are too many for the memory or too few, or the priors give no pairs.

    Examples
    --------
    >>> import twinlines as tw
    >>> tw.synthesize(4, seed=1).flux_B.sel(kind="binary").shape
    (4, 3347)
    """
    recipe = TrainingSet(pairs, seed) if isinstance(pairs, int) else pairs
    if recipe.n_pairs > MOST_PAIRS:
        raise SynthesisError(
            f"{recipe.n_pairs} pairs are too many for the memory; ask for {MOST_PAIRS} or fewer, or make a store of "
            "them: 'twinlines synthesize --pairs N --out pairs.zarr'"
        )
    selection, digest = select(recipe), recipe.digest
    (shard,) = shards_of(selection, digest, recipe.n_pairs)
    attrs = {"provenance": recipe.provenance(), "digest": digest, "fates": selection.fates.counts()}
    return PAIRS.dataset(columns_of(shard, recipe), recipe.n_pairs, **attrs)
