"""One star from its exposures at hand: real nights of KIC 8098300, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.places import SHARED
from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.orbits.summary import OrbitStatus
from twinlines.pipeline.binaries.schema import ORBITS, SOURCES
from twinlines.pipeline.binaries.sources.binary import solve_binary
from twinlines.pipeline.binaries.sources.priors import match, read_priors
from twinlines.pipeline.binaries.twostar.fit import fit_pair
from twinlines.pipeline.cli import console
from twinlines.pipeline.figures.binary import binary as draw
from twinlines.pipeline.lamost.dataset import read_lamost
from twinlines.pipeline.schema import EXPOSURES, SchemaError

real = pytest.mark.skipif(not (SHARED / "lamost").is_dir(), reason="needs the real LAMOST files in ../shared")


@pytest.fixture(scope="module")
def nights() -> tuple[xr.Dataset, xr.Dataset]:
    """The well exposed spectra of three nights, and their fits."""
    names = ("58625-TD192102N424113K01_sp12-076", "58646-TD192102N424113K01_sp12-076")
    files = [SHARED / "lamost" / f"med-{name}.fits.gz" for name in names]
    files.append(SHARED / "lamost" / "med-58649-TD193637N444141K01_sp10-159.fits.gz")
    spectra = read_lamost(files)
    return spectra, fit_pair(spectra)


@real
def test_the_nights_of_kic_8098300_with_kepler_s_period(nights: tuple[xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    spectra, fits = nights
    position = spectra["ra"].values[:1], spectra["dec"].values[:1]
    known = match(read_priors(SHARED / "catalogs" / "kebc.csv"), *position, {})[0]
    source = solve_binary(spectra, fits, ephemeris=known)
    SOURCES.validate(source.table)
    ORBITS.validate(source.solutions)
    star, orbit = source.table.isel(source=0), source.solutions.isel(solution=0)
    assert (int(star["epochs"]), int(star["epochs_double"]), int(star["epochs_blended"])) == (10, 7, 2)
    assert source.solutions.sizes["solution"] == 1
    assert int(orbit["flags"]) & OrbitStatus.EPHEMERIS
    assert not int(orbit["flags"]) & (OrbitStatus.POOR_FIT | OrbitStatus.JITTER)
    assert abs(float(orbit["period"]) - known.period) < 4.0 * known.period_error
    # Two stars of 6300 K that eclipse, in a round orbit: 2.2 suns, give or take the zero points.
    assert 1.9 < float(orbit["minimum_mass_primary"] + orbit["minimum_mass_secondary"]) < 2.6
    assert float(orbit["eccentricity"]) < 0.05
    assert 160.0 < float(orbit["semi_amplitude_primary"] + orbit["semi_amplitude_secondary"]) < 182.0
    # K1 / K2 is 0.82 (Kepler's binaries). Zero points of two spectrographs, 4 km/s each, are what its error is made of.
    ratio, error = float(orbit["mass_ratio"]), float(orbit["mass_ratio_error"])
    assert 0.05 < error < 0.25
    assert abs(ratio - 0.82) < 1.5 * error
    # Both stars pass in front of each other a quarter of a turn after the largest velocity.
    turns = float(source.phase(np.array([known.eclipse or 0.0]))[0])
    assert abs(abs(turns - 0.5) - 0.25) < 0.02
    assert len(json.dumps(console.plain(source.to_json()))) > 500
    figure = draw(source)
    figure.savefig(tmp_path / "binary.png")
    assert [panel.get_xlabel() for panel in figure.axes][1:] == [
        "Phase, from star 1's largest velocity on",
        "Velocity of star 1 (km/s)",
        f"Period − {float(orbit['period']):.6f} d (s)",
    ]
    assert len(figure.axes[0].get_yticklabels()) == 9  # one exposure has too little light


@real
def test_without_a_period_two_nights_give_limits(nights: tuple[xr.Dataset, xr.Dataset]) -> None:
    source = solve_binary(*nights)
    orbit = source.solutions.isel(solution=0)
    assert int(orbit["flags"]) == OrbitStatus.TOO_FEW_EPOCHS
    assert np.isnan(source.period)
    assert np.isnan(source.phase(np.zeros(2))).all()
    assert 130.0 < float(orbit["limit_amplitude_sum"]) < 145.0  # km/s apart on the second night
    figure = draw(source, most=4)
    assert len(figure.axes[0].get_yticklabels()) == 4
    words = [text.get_text() for text in figure.axes[-1].texts]
    assert "7 epochs with two velocities, on 2 nights" in words[0]
    single = nights[1].assign(fit_quality=nights[1]["fit_quality"] | 64)  # NOT_DOUBLE
    with pytest.raises(FitsError, match="none of the 10 exposures shows two sets of lines"):
        solve_binary(nights[0], single)
    two = nights[0].assign(ra=nights[0]["ra"] + xr.where(nights[0]["lmjm"] > 84452000, 1.0, 0.0))
    with pytest.raises(FitsError, match="the 10 exposures are of 2 stars; give those of one"):
        solve_binary(two, nights[1])


def test_what_is_no_exposure_is_refused() -> None:
    with pytest.raises(SchemaError, match="these are no exposures: obsid is missing"):
        solve_binary(xr.Dataset())
    with pytest.raises(FitsError, match="there is no exposure to solve"):
        solve_binary(EXPOSURES.dataset({}, 0))
