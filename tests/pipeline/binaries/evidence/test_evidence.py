"""All stars at once: blocks, order of rows, and what is refused."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from tests.pipeline.binaries.evidence.conftest import Draw
from tests.pipeline.binaries.evidence.test_exposures import rows
from twinlines.pipeline.binaries.evidence.evidence import (
    Evidence,
    Prevalence,
    PrevalenceError,
    evidence_of,
    read_exposures,
)
from twinlines.pipeline.binaries.evidence.exposures import Exposures
from twinlines.pipeline.binaries.evidence.model import Calibration


def same(one: Evidence, other: Evidence, order: np.ndarray | slice = slice(None)) -> None:
    for item in fields(Evidence):
        first, second = getattr(one, item.name), getattr(other, item.name)[order]
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7, err_msg=item.name)


def test_neither_blocks_nor_the_order_of_rows_change_a_star(draw: Draw, plain: Calibration) -> None:
    exposures, star, kind = draw(300)
    whole = evidence_of(exposures, star, len(kind), calibration=plain)
    assert len(whole.sb2_probability) == len(kind)
    same(whole, evidence_of(exposures, star, len(kind), calibration=plain, block_rows=7))
    turned = np.random.default_rng(0).permutation(len(star))
    same(whole, evidence_of(exposures.take(turned), star[turned], len(kind), calibration=plain))
    # Exposures of no star are of no consequence.
    more = Exposures.concatenate([exposures, exposures.take(np.arange(5))])
    same(whole, evidence_of(more, np.r_[star, np.full(5, -1)], len(kind), calibration=plain))


def test_no_star_is_an_empty_answer(draw: Draw, plain: Calibration) -> None:
    exposures = draw(3).exposures.take(np.empty(0, np.int64))
    found = evidence_of(exposures, np.empty(0, np.int64), 0, calibration=plain)
    assert all(len(getattr(found, item.name)) == 0 for item in fields(Evidence))


def test_a_star_without_an_exposure_is_refused(draw: Draw, plain: Calibration) -> None:
    exposures, star, kind = draw(5)
    with pytest.raises(ValueError, match="1 of 6 stars have no exposure"):
        evidence_of(exposures, star, len(kind) + 1, calibration=plain)
    with pytest.raises(ValueError, match="numbered beyond"):
        evidence_of(exposures, star, len(kind) - 1, calibration=plain)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 2.0, np.nan])
def test_a_prevalence_is_a_fraction(value: float) -> None:
    with pytest.raises(PrevalenceError, match="the prevalence of SB2s is"):
        Prevalence(value)
    with pytest.raises(PrevalenceError, match="the prevalence of SB1s is"):
        Prevalence(0.01, value)


def test_a_catalog_is_read_in_blocks() -> None:
    rng = np.random.default_rng(3)
    velocity = {f"rv_obs_{arm}": rng.normal(0.0, 20.0, 11) for arm in "BR"}
    errors = {f"rv_obs_err_{arm}": np.full(11, 1.0) for arm in "BR"}
    catalog = rows(11, pb_J=rng.normal(0.0, 5.0, 11), **velocity, **errors)
    whole, blocks = read_exposures(catalog), read_exposures(catalog, block_rows=4)
    for item in fields(Exposures):
        np.testing.assert_array_equal(getattr(whole, item.name), getattr(blocks, item.name), err_msg=item.name)
    assert np.isfinite(whole.velocity).all()
    assert len(read_exposures(catalog.isel(exposure=[])).ratio) == 0
    assert replace(whole, ratio=whole.ratio).ratio is whole.ratio
