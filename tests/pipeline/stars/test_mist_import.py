"""Import of sets of tracks: made-up ones, and the real PARSEC and MIST tracks of ../shared."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.places import SHARED
from twinlines.pipeline.cli import main
from twinlines.pipeline.cli.options import QUARANTINED
from twinlines.pipeline.cli.tracks import show_import
from twinlines.pipeline.figures.tracks import diagram
from twinlines.pipeline.schema import TRACKS
from twinlines.pipeline.stars import store as trackstore
from twinlines.pipeline.stars.mist_files import TrackFileError
from twinlines.pipeline.stars.mist_import import TracksImportReport, import_tracks
from twinlines.pipeline.stars.summary import Composition, summarise
from twinlines.pipeline.stars.tracks import MAXIMUM_AGE, RGB_TIP, TrackReason, Tracks
from twinlines.pipeline.storage.stores import StoreError, open_store
from twinlines.pipeline.testing.tracks import track_name, track_text, truth, write_archive

MADE_UP = {-0.5: {0.6: 300, 1.0: 605, 2.0: 605}, 0.25: {0.8: 605, 1.0: 605, 1.5: 605, 2.0: 500}}
"""Last EEP by [Fe/H] and mass."""


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """One composition loose, in MIST 1.2's names, the other in an archive."""
    folder = tmp_path / "MIST_v1.2_feh_m0.50_afe_p0.0_vvcrit0.4_EEPS"
    folder.mkdir()
    for mass, last in MADE_UP[-0.5].items():
        (folder / track_name(mass)).write_text(track_text(mass, -0.5, n_eeps=last, n_columns=77))
    members = {f"p0.25/{track_name(mass)}": track_text(mass, 0.25, n_eeps=last) for mass, last in MADE_UP[0.25].items()}
    return [folder, write_archive(tmp_path / "p0.25.txz", members)]


def shown(report: TracksImportReport) -> str:
    where = Console(file=io.StringIO(), width=160)
    show_import(report, where)
    return where.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_loose_files_and_archives_become_one_store(sources: list[Path], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    report = import_tracks(sources, tmp_path / "t.zarr.zip", progress=lambda *what: told.append(what))
    assert told[-1] == ("track files", 4, 4)
    assert report.models == {"MIST version number  = 1.2": 7}
    assert report.rotation == [0.4]
    assert report.covers.compositions == [
        Composition(-0.5, 0.0, 3, 0.6, 2.0, 1.0, 300, 605),
        Composition(0.25, 0.0, 4, 0.8, 2.0, 0.5, 500, 605),
    ]
    tracks = Tracks.load(report.file)
    assert tracks.digest == report.covers.digest
    state = tracks.state(1.3, 0.1, 250.5)
    log_age, log_l, log_teff, star_mass = truth(*(np.array(value) for value in (1.3, 0.1, 250.5, 0.0)))
    assert np.log10(state.age[0]) == pytest.approx(float(log_age), abs=1e-12)
    # What is not an age is stored as float32.
    assert np.log10(state.luminosity[0]) == pytest.approx(float(log_l), abs=1e-6)
    assert np.log10(state.teff[0]) == pytest.approx(float(log_teff), abs=1e-6)
    assert state.mass[0] == pytest.approx(float(star_mass), abs=1e-6)
    assert tracks.state([0.7, 0.7, 0.9], [-0.5, 0.25, 0.25], [301, 250, 300]).reason.tolist() == [
        TrackReason.TRACK_ENDS, TrackReason.MASS_LOW, TrackReason.OK,
    ]  # fmt: skip


def test_a_store_is_a_dataset_with_units_and_provenance(sources: list[Path], tmp_path: Path) -> None:
    report = import_tracks(sources, tmp_path / "t.zarr.zip")
    dataset = open_store(report.file, TRACKS).load()
    assert dict(dataset.sizes) == {"track": 7, "eep": 605}
    assert dataset["eep"].values.tolist() == list(range(1, 606))
    assert dataset["mass"].attrs == {"units": "solMass", "long_name": "Initial mass"}
    assert dataset["n_eeps"].values.tolist() == [300, 605, 605, 605, 605, 605, 500]
    assert dataset["source_file"].values[0] == "MIST_v1.2_feh_m0.50_afe_p0.0_vvcrit0.4_EEPS/00060M.track.eep"
    assert dataset["source_file"].values[-1] == "p0.25.txz: p0.25/00200M.track.eep"
    assert str(tmp_path) not in str([*dataset["source_file"].values.tolist(), dataset.attrs])
    assert dataset["metals"].values[0] == pytest.approx(0.0142 * 10**-0.5, rel=1e-5)
    assert dataset.attrs["models"] == {"MIST version number  = 1.2": 7}
    assert (dataset.attrs["left_out"], dataset.attrs["ages_moved"]) == (0, 0)
    assert dataset.attrs["digest"] == report.covers.digest


def test_heavy_tracks_and_late_phases_may_be_left_out(sources: list[Path], tmp_path: Path) -> None:
    report = import_tracks(sources, tmp_path / "t.zarr.zip", maximum_mass=1.5, last_eep=454)
    assert report.covers.compositions == [
        Composition(-0.5, 0.0, 2, 0.6, 1.0, 0.4, 300, 454),
        Composition(0.25, 0.0, 3, 0.8, 1.5, 0.5, 454, 454),
    ]
    assert Tracks.load(report.file).eep.size == 454
    with pytest.raises(TrackFileError, match="last_eep is 1; a track needs two"):
        import_tracks(sources, tmp_path / "u.zarr.zip", last_eep=1)
    with pytest.raises(TrackFileError, match=r"no track of at most 0\.5 Msun"):
        import_tracks(sources, tmp_path / "u.zarr.zip", maximum_mass=0.5)


def test_moved_ages_are_reported(sources: list[Path], tmp_path: Path) -> None:
    path = sources[0] / track_name(1.0)
    lines = path.read_text().splitlines()
    lines[20] = lines[19]
    path.write_text("\n".join(lines) + "\n")
    report = import_tracks(sources, tmp_path / "t.zarr.zip")
    assert report.ages_moved == 1
    assert "ages that did not rise, by less than one part in 1e9, and were moved: 1" in shown(report)


def test_a_file_name_that_is_no_utf_8_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"st\xe4r.track.eep")
    path.write_text(track_text(1.0, 0.0))
    report = import_tracks([path], tmp_path / "t.zarr.zip")
    (name,) = trackstore.read(report.file).columns["source_file"]
    assert name.endswith("st\\udce4r.track.eep")


def test_the_order_of_sources_does_not_matter(sources: list[Path], tmp_path: Path) -> None:
    one = import_tracks(sources, tmp_path / "a.zarr.zip")
    two = import_tracks(sources[::-1], tmp_path / "b.zarr.zip")
    assert one.covers == two.covers
    assert Path(one.file).read_bytes() == Path(two.file).read_bytes()


def test_an_axis_of_alpha_is_a_coordinate_and_its_hole_is_reported(tmp_path: Path) -> None:
    corners = [(-0.5, 0.0), (-0.5, 0.4), (0.0, 0.0), (0.0, 0.4), (0.5, 0.0)]
    for feh, alpha in corners:
        members = {track_name(mass, 7): track_text(mass, feh, alpha, 400, version="2.5") for mass in (0.8, 1.2)}
        write_archive(tmp_path / f"feh{feh}_afe{alpha}.txz", members)
    report = import_tracks([tmp_path], tmp_path / "t.zarr.zip")
    assert report.covers.holes == [(0.5, 0.4)]
    assert "no tracks at [Fe/H] 0.5, [alpha/Fe] 0.4: stars next to it have no state" in shown(report)
    tracks = Tracks.load(report.file)
    state = tracks.state(1.1, [-0.2, 0.3, 0.3, -0.2], 300, [0.1, 0.1, 0.0, 0.5])
    assert state.reason.tolist() == [0, TrackReason.HOLE, 0, TrackReason.ALPHA_HIGH]
    expected = truth(*(np.array(value) for value in (1.1, -0.2, 300.0, 0.1)))[0]
    assert np.log10(state.age[0]) == pytest.approx(float(expected), abs=1e-12)


def test_all_errors_of_a_set_are_told_at_once(sources: list[Path], tmp_path: Path) -> None:
    for number in range(12):
        (sources[0] / f"0{number:02d}99M.track.eep").write_text("words")
    truncated = sources[0] / track_name(2.0)
    truncated.write_text(truncated.read_text()[:100_000])
    with pytest.raises(TrackFileError) as caught:
        import_tracks(sources, tmp_path / "t.zarr.zip")
    message = str(caught.value)
    assert message.startswith("13 of the track files cannot be read\n")
    assert f"{sources[0] / '00099M.track.eep'}: no line with the name [Fe/H]" in message
    assert f"{truncated}: is truncated" in message
    assert message.count("\n  /") == 10
    assert "  and 3 more\nnothing was imported; mend these, or leave them out (--skip-damaged" in message
    assert not (tmp_path / "t.zarr.zip").exists()

    report = import_tracks(sources, tmp_path / "t.zarr.zip", skip_damaged=True)
    assert len(report.left_out) == 13
    assert f"left out: {truncated}: is truncated" in shown(report)
    assert [one.tracks for one in report.covers.compositions] == [2, 4]
    assert trackstore.read(report.file).attrs["left_out"] == 13


def test_nothing_readable_is_an_error_even_if_damage_may_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "00100M.track.eep").write_text("words")
    with pytest.raises(
        TrackFileError, match=r"no track of at most inf Msun that can be read\n  .*00100M\.track\.eep: no line"
    ):
        import_tracks([tmp_path], tmp_path / "t.zarr.zip", skip_damaged=True)


def test_two_tracks_of_one_star_are_an_error(sources: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "other" / "00100M.track.eep"
    twin.parent.mkdir()
    twin.write_text(track_text(1.0, 0.25, rotation=0.0))
    with pytest.raises(TrackFileError) as caught:
        import_tracks([*sources, twin], tmp_path / "t.zarr.zip", skip_damaged=True)
    message = str(caught.value)
    assert message.startswith("tracks of the same star in two files: 1\n")
    assert f"{sources[1]}: p0.25/00100M.track.eep and {twin}: both 1 Msun, [Fe/H] 0.25, [alpha/Fe] 0" in message
    assert "(v/v_crit 0.4 and 0)" in message


def test_mixed_models_are_imported_and_said(sources: list[Path], tmp_path: Path) -> None:
    (sources[0] / track_name(0.9)).write_text(track_text(0.9, -0.5, version="2.5", rotation=0.0))
    report = import_tracks(sources, tmp_path / "t.zarr.zip")
    assert report.models == {"MIST version number  = 1.2": 7, "MIST version number  = 2.5": 1}
    assert report.rotation == [0.0, 0.4]
    assert "attention: these tracks are of different models" in shown(report)


def test_where_to_write_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"t\.npz: a store of tracks is one zipped file; name it \*\.zarr\.zip"):
        import_tracks(["nowhere"], tmp_path / "t.npz")
    with pytest.raises(StoreError, match=r"the folder .*none does not exist"):
        import_tracks(["nowhere"], tmp_path / "none" / "t.zarr.zip")
    (tmp_path / "t.zarr.zip").write_text("precious")
    with pytest.raises(StoreError, match=r"t\.zarr\.zip exists already"):
        import_tracks(["nowhere"], tmp_path / "t.zarr.zip")


def test_the_commands(sources: list[Path], tmp_path: Path) -> None:
    store, figure = tmp_path / "t.zarr.zip", tmp_path / "hr.png"
    run = CliRunner().invoke
    imported = run(main.app, ["tracks", "import", *map(str, sources), "--out", str(store), "--json"])
    assert imported.exit_code == 0, imported.output
    assert json.loads(imported.stdout)["covers"]["compositions"][1]["mass_low"] == 0.8
    again = run(main.app, ["tracks", "import", *map(str, sources), "--out", str(store)])
    assert isinstance(again.exception, StoreError)
    assert run(main.app, ["tracks", "import", *map(str, sources), "--out", str(store), "--overwrite"]).exit_code == 0

    told = run(main.app, ["tracks", "show", str(store), "--out", str(figure), "--feh", "-0.4"])
    assert told.exit_code == 0, told.output
    assert "7 tracks, 2 compositions, from EEP 1 on" in told.output
    assert "[alpha/Fe]" in told.output
    assert figure.read_bytes().startswith(b"\x89PNG")
    summary = json.loads(run(main.app, ["tracks", "show", str(store), "--out", str(figure), "--json"]).stdout)
    assert summary["first_eep"] == 1

    (sources[0] / "00070M.track.eep").write_text("words")
    skipped = run(
        main.app, ["tracks", "import", str(sources[0]), "--out", str(tmp_path / "s.zarr.zip"), "--skip-damaged"]
    )
    assert skipped.exit_code == QUARANTINED
    assert "left out: " in skipped.output


def test_the_packaged_tracks_are_shown(tmp_path: Path) -> None:
    figure = tmp_path / "hr.png"
    told = CliRunner().invoke(main.app, ["tracks", "show", "--out", str(figure)])
    assert "2040 tracks, 24 compositions, from EEP 202 on" in told.output
    assert figure.stat().st_size > 20_000


def test_a_diagram_shows_the_nearest_composition(sources: list[Path], tmp_path: Path) -> None:
    tracks = Tracks.load(import_tracks(sources, tmp_path / "t.zarr.zip").file)
    panels = diagram(tracks, feh=-0.3).axes
    assert panels[0].get_title() == "Hertzsprung-Russell diagram, [Fe/H] = -0.50, [α/Fe] = +0.00"
    assert panels[0].xaxis_inverted()
    assert panels[1].yaxis_inverted()
    assert sum(len(drawn.get_offsets()) for drawn in panels[2].collections) == tracks.mass.size


# Real tracks

ARCHIVES = SHARED / "tracks"
needs_tracks = pytest.mark.skipif(not ARCHIVES.exists(), reason="the PARSEC and MIST tracks are not in ../shared")


@pytest.fixture(scope="module")
def parsec(tmp_path_factory: pytest.TempPathFactory) -> Tracks:
    """All fifteen metallicities of PARSEC."""
    archives = sorted(ARCHIVES.glob("PARSEC*.txz"))
    assert len(archives) == 15
    report = import_tracks(archives, tmp_path_factory.mktemp("parsec") / "parsec.zarr.zip")
    assert report.left_out == []
    return Tracks.load(report.file)


@needs_tracks
def test_all_shared_tracks_are_read(parsec: Tracks, tmp_path: Path) -> None:
    assert parsec.mass.size == 670
    assert (parsec.mesh.feh[0], parsec.mesh.feh[-1]) == (-2.19, 0.70)
    assert (parsec.mesh.mass[0], parsec.mesh.mass[-1]) == (0.1, 2.2)
    report = import_tracks([ARCHIVES], tmp_path / "all.zarr.zip")
    assert sum(report.models.values()) == 744
    assert report.models["MIST version number  = 1.0"] == 74
    assert report.rotation == [0.0, 0.4]
    low = report.covers.compositions[0]
    assert (low.feh, low.tracks, low.last_eep_low, low.last_eep_high) == (-2.5, 74, 454, 605)


@needs_tracks
def test_the_sun_of_parsec(parsec: Tracks) -> None:
    eep, reason = parsec.eep_at_age(1.0, 0.07, 4.6e9)
    sun = parsec.state(1.0, 0.07, eep)
    assert reason[0] == 0
    assert abs(np.log10(sun.luminosity[0])) < 0.05
    assert abs(sun.teff[0] - 5772) < 100
    assert abs(sun.logg[0] - 4.438) < 0.03


@needs_tracks
def test_real_tracks_are_given_back_at_their_nodes(parsec: Tracks) -> None:
    rows = np.random.default_rng(7).choice(parsec.mass.size, 40, replace=False)
    for row in rows:
        eep = parsec.eep[: parsec.length[row]]
        state = parsec.state(parsec.mass[row], parsec.feh[row], eep)
        young = parsec.log_age[row, : eep.size] <= np.log10(MAXIMUM_AGE)
        assert (state.reason == np.where(young, 0, TrackReason.TOO_OLD)).all()
        np.testing.assert_allclose(np.log10(state.teff[young]), parsec.log_teff[row, : eep.size][young], atol=1e-12)
        back, _ = parsec.eep_at_age(parsec.mass[row], parsec.feh[row], state.age[young])
        np.testing.assert_allclose(back, eep[young], atol=1e-7)


@needs_tracks
def test_both_directions_are_inverses_between_real_tracks(parsec: Tracks) -> None:
    random = np.random.default_rng(8)
    mass, feh, eep = (
        random.uniform(0.1, 2.2, 50_000),
        random.uniform(-2.19, 0.7, 50_000),
        random.uniform(1, 605, 50_000),
    )
    state = parsec.state(mass, feh, eep)
    good = state.reason == 0
    assert 0.6 < good.mean() < 0.9
    assert set(np.unique(state.reason).tolist()) == {0, TrackReason.TOO_OLD}, "what ends, ends old"
    back, reason = parsec.eep_at_age(mass[good], feh[good], state.age[good])
    assert (reason == 0).all()
    np.testing.assert_allclose(back, eep[good], atol=1e-7)


@needs_tracks
def test_a_mass_that_a_metallicity_lacks_lies_between_its_neighbours(parsec: Tracks) -> None:
    # PARSEC has no 1.45 Msun at [Fe/H] -0.58, but at the metallicities around it.
    here = parsec.mass[parsec.feh == -0.58]
    assert 1.45 not in here
    state = parsec.state([1.4, 1.45, 1.5], -0.58, 300)
    assert (state.reason == 0).all()
    assert np.log10(state.teff[1]) == pytest.approx(np.log10(state.teff[[0, 2]]).mean(), abs=1e-12)


@needs_tracks
def test_summaries_and_diagrams_of_real_tracks(parsec: Tracks) -> None:
    covers = summarise(parsec)
    assert len(covers.compositions) == 15
    assert {one.last_eep_high for one in covers.compositions} == {RGB_TIP}
    assert len(diagram(parsec).axes) == 3
