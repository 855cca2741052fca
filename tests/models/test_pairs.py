from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from twinlines.models.pairs import PairArrays, PairsError, load_pairs
from twinlines.models.vocabulary import TEST, TRAIN, VALIDATION


def store(path: Path, pairs: PairArrays, chunk: int = 64) -> Path:
    group = zarr.create_group(store=path)
    flux = np.asarray(pairs.flux[:])
    group.create_array("flux_B", data=flux, chunks=(chunk, 1, flux.shape[2]))
    group.create_array("label", data=pairs.label)
    group.create_array("split", data=pairs.split)
    group.create_array("snr_B", data=pairs.snr)
    return path


def test_a_store_is_read_by_split(pairs: PairArrays, tmp_path: Path) -> None:
    loaded = load_pairs(store(tmp_path / "pairs.zarr", pairs), "B")
    for split in (TRAIN, VALIDATION, TEST):
        flux, label, snr = loaded.read(split)
        np.testing.assert_array_equal(label, pairs.label[pairs.split == split])
        expected = np.asarray(pairs.flux[:])[pairs.split == split]
        assert flux.dtype == np.float16
        np.testing.assert_allclose(flux.astype(np.float32), expected, atol=1e-3)
        np.testing.assert_array_equal(snr, pairs.snr[pairs.split == split])


def test_rounding_to_half_precision_is_far_below_the_noise() -> None:
    rng = np.random.default_rng(0)
    flux = (1 + rng.standard_normal((50, 2, 500)) / 100).astype(np.float32)
    label = np.zeros((50, 2), np.int8)
    pairs = PairArrays(flux, label, np.zeros(50, np.int8), np.full(50, 100, np.float32), "")
    error = pairs.read(TRAIN).flux.astype(np.float32) - flux
    assert error.std() < 0.03 * 0.01


def test_the_digest_follows_the_values_alone(pairs: PairArrays, tmp_path: Path) -> None:
    first = load_pairs(store(tmp_path / "a.zarr", pairs), "B").digest
    assert load_pairs(store(tmp_path / "b.zarr", pairs, chunk=10), "B").digest == first == pairs.digest
    flux = np.array(pairs.flux[:])
    flux[7, 1, 3] += 1e-3
    assert load_pairs(store(tmp_path / "c.zarr", replace(pairs, flux=flux)), "B").digest != first
    other = replace(pairs, label=np.zeros_like(pairs.label))
    assert load_pairs(store(tmp_path / "d.zarr", other), "B").digest != first


def test_missing_stores_and_arrays_are_named(pairs: PairArrays, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match=r"none.zarr does not exist"):
        load_pairs(tmp_path / "none.zarr", "B")
    with pytest.raises(PairsError, match="flux_R"):
        load_pairs(store(tmp_path / "pairs.zarr", pairs), "R")
    with pytest.raises(PairsError, match="no store of pairs"):
        load_pairs(tmp_path, "B")


def test_bad_pairs_are_refused(pairs: PairArrays) -> None:
    with pytest.raises(PairsError, match="must be"):
        replace(pairs, flux=np.ones((4, 3, 10), np.float32))
    with pytest.raises(PairsError, match="must agree"):
        replace(pairs, snr=pairs.snr[:-1])
    with pytest.raises(PairsError, match="must agree"):
        replace(pairs, label=pairs.label[:, 0])
    with pytest.raises(PairsError, match="no pair is of the split 'test'"):
        replace(pairs, split=np.zeros_like(pairs.split)).read(TEST)
    flux = np.array(pairs.flux[:])
    flux[7, 1, 3] = np.nan
    with pytest.raises(PairsError, match="pair 7 holds flux that is not finite"):
        replace(pairs, flux=flux).read(TRAIN)
    replace(pairs, flux=flux).read(TEST)
