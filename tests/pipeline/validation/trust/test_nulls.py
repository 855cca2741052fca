"""Presumed single stars: of constant velocity and narrow lines, or listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from twinlines.pipeline.validation.trust.classes import TrustError
from twinlines.pipeline.validation.trust.lists import read_list
from twinlines.pipeline.validation.trust.nulls import NullRule, Velocities, presumed_single

KINDS = ("single", "binary", "broad", "few", "brief")


def velocities(seed: int = 1, each: int = 40) -> tuple[Velocities, np.ndarray]:
    """Stars of each kind, eight exposures on as many nights but for the last two kinds."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(KINDS)), each)
    star = np.repeat(np.arange(len(kind)), 8)
    mine = kind[star]
    visit = np.tile(np.arange(8), len(kind))
    night = np.where(mine == 3, visit // 4, np.where(mine == 4, visit, 10 * visit))
    snr = rng.uniform(20.0, 60.0, (len(star), 2))
    error = np.where(mine == 2, 60.0, 20.0)[:, None] / snr
    moved = np.where(mine == 1, rng.normal(0.0, 30.0, len(star)), 0.0)
    velocity = (rng.normal(0.0, 40.0, len(kind))[star] + moved)[:, None] + error * rng.standard_normal((len(star), 2))
    return Velocities(
        star, night, velocity, error, np.ones((len(star), 2), bool), snr, np.zeros(len(star), np.int64)
    ), kind


def test_singles_of_narrow_lines_pass_and_no_others() -> None:
    made, kind = velocities()
    found, counts = presumed_single(made)
    assert set(kind[found]) == {0}
    assert len(found) >= 36
    assert (counts.stars, counts.nights) == (200, 120)
    assert counts.constant < 90
    assert counts.narrow == len(found)


def test_velocities_that_are_not_on_one_scale_may_scatter_more() -> None:
    made, kind = velocities()
    shifted = made.velocity + np.random.default_rng(2).normal(0.0, 3.0, made.velocity.shape)
    plain = Velocities(made.star, made.night, shifted, made.error, np.zeros_like(made.measured), made.snr, made.group)
    measured = Velocities(made.star, made.night, shifted, made.error, made.measured, made.snr, made.group)
    assert len(presumed_single(plain)[0]) > 30 > len(presumed_single(measured)[0])
    assert set(kind[presumed_single(plain)[0]]) == {0}


def test_ambiguous_velocities_do_not_count() -> None:
    made, _ = velocities()
    made.velocity[made.star == 0] = np.nan
    assert 0 not in presumed_single(made)[0]
    nothing = Velocities(*(getattr(made, name)[:0] for name in Velocities.__dataclass_fields__))
    assert len(presumed_single(nothing)[0]) == 0


def test_a_rule_that_shows_nothing_is_refused() -> None:
    with pytest.raises(TrustError, match="2 or more"):
        NullRule(nights=1)
    with pytest.raises(TrustError, match="above 0"):
        NullRule(floor=0.0)


def test_a_list_is_found_by_obsid_or_position(tmp_path: Path) -> None:
    obsid, ra, dec = np.array([5, 6, 7, 7]), np.array([10.0, 10.0, 50.0, 50.0]), np.array([1.0, 1.0, 2.0, 2.0])
    star = np.array([0, 0, 1, 1])
    Table({"OBSID": [6, 99]}).write(tmp_path / "a.csv")
    assert read_list(tmp_path / "a.csv").stars(obsid, ra, dec, star).tolist() == [0]
    Table({"RAJ2000": [50.0], "DEJ2000": [2.0003]}).write(tmp_path / "b.fits")
    listed = read_list(tmp_path / "b.fits")
    assert listed.stars(obsid, ra, dec, star).tolist() == [1]
    assert listed.to_json()["by"] == "position"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a"]}, "it has no column of ra, by any of the names .*; it has name"),
        ({"obsid": [1.5]}, "row 0 has obsid = 1.5"),
        ({"ra": [10.0], "dec": [100.0]}, "row 0 is at ra 10, dec 100"),
        ({"obsid": ["x"]}, "identifiers are whole numbers"),
        ({"obsid": [123]}, r"none of its 1 obsids \(123 to 123\) is that of an exposure of the catalog \(5 to 5\)"),
        ({"obsid": np.zeros(0, np.int64)}, "has no row"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    path = tmp_path / "list.ecsv"
    Table(columns).write(path)
    where = np.array([5]), np.array([10.0]), np.array([1.0]), np.array([0])
    with pytest.raises(TrustError, match=message):
        read_list(path).stars(*where)
    with pytest.raises(TrustError, match="there is no table of single stars"):
        read_list(tmp_path / "none.csv")
    (tmp_path / "bad.fits").write_text("<html>")
    with pytest.raises(TrustError, match="cannot be read as a table"):
        read_list(tmp_path / "bad.fits")
