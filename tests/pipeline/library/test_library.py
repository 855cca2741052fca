import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.places import ROOT, SHARED
from twinlines.pipeline.arms import ARMS, BLUE, RED
from twinlines.pipeline.library import packing
from twinlines.pipeline.library.library import Library, Outside, OutsideLibraryError
from twinlines.pipeline.library.packing import pack
from twinlines.pipeline.storage import hashed_npz

GRID = SHARED / "library" / "default_grid.npz"

labels_inside = st.tuples(st.floats(4000, 8000), st.floats(2, 5), st.floats(-2, 0.5), st.floats(-0.5, 0.7))


@pytest.fixture(scope="module")
def library():
    return Library.load()


def small_grid(path, *, drop=(), **changes):
    """A grid of 2 x 3 x 2 x 2 nodes with a smooth ln flux, in the layout that pack() reads."""
    axes = ([5000.0, 6000.0], [3.0, 4.0, 5.0], [-1.0, 0.0], [0.0, 0.4])
    labels = np.array(np.meshgrid(*axes, indexing="ij")).reshape(4, -1).T
    labels = np.delete(labels, drop, axis=0)
    content = {"labels": labels.astype(np.float32), "lnflux_scale": np.float64(5e-5)}
    for name, colour in (("B", "blue"), ("R", "red")):
        wave = ARMS[name].library_wavelength
        lnflux = 15 + labels[:, :1] / 5000 + np.sin(wave / 20) * (0.1 * labels[:, 1:2] + 0.05 * labels[:, 2:3] ** 2)
        lnflux += labels[:, 3:] * np.cos(wave / 7) * 0.02
        content |= {f"wave_{colour}": wave, f"lnflux_offset_{colour}": lnflux.mean(axis=1)}
        code = (lnflux - lnflux.mean(axis=1, keepdims=True)) / 5e-5
        content[f"lnflux_code_{colour}"] = np.round(code).astype(np.int16)
    np.savez(path, **(content | changes))
    return content


def test_the_packaged_library_is_the_one_described(library):
    assert Library.load() is library
    assert library.nodes().shape == (2184, 4)
    np.testing.assert_array_equal(library.teff[[0, 1, 2, -1]], [3500, 3750, 4000, 10000])
    np.testing.assert_array_equal(library.logg, np.arange(6))
    np.testing.assert_allclose(library.feh, [-2, -1.5, -1, -0.5, 0, 0.5])
    np.testing.assert_allclose(library.alpha, [-0.5, 0, 0.4, 0.7])
    assert len(library.digest) == 32
    path = ROOT / "pipeline" / "data" / "library.npz"
    assert path.stat().st_size < 12e6
    assert hashed_npz.read(path, packing.KIND, packing.VERSION).attrs["relative_error"]["percentile_99.9"] < 1.3e-3


def test_all_nodes_are_inside_and_finite(library):
    nodes = library.nodes()
    assert not library.outside(nodes).any()
    for name, arm in ARMS.items():
        flux = library.flux(name, nodes[::37])
        assert flux.dtype == np.float32
        assert flux.shape == (len(nodes[::37]), arm.library_pixels)
        assert np.isfinite(flux).all()
        assert (flux > 0).all()


@pytest.mark.skipif(not GRID.exists(), reason="the uncompressed grid is not in ../shared")
def test_fluxes_at_the_nodes_are_those_of_the_grid(library):
    with np.load(GRID) as grid:
        np.testing.assert_allclose(library.nodes(), grid["labels"], atol=1e-6)
        cool = grid["labels"][:, 0] <= 4250.0  # their molecular lines are too many for 250 components to be as exact
        for name, colour in (("B", "blue"), ("R", "red")):
            for some, step, most, rms in ((cool, 3, 1.1e-2, 4e-4), (~cool, 7, 3e-3, 2e-4)):
                rows = np.flatnonzero(some)[::step]
                assert rows.size > 150
                lnflux = grid[f"lnflux_offset_{colour}"][rows, None]
                lnflux = lnflux + float(grid["lnflux_scale"]) * grid[f"lnflux_code_{colour}"][rows]
                error = library.flux(name, grid["labels"][rows]) / np.exp(lnflux) - 1  # labels as float32
                assert np.abs(error).max() < most
                assert np.sqrt(np.mean(error**2)) < rms


@settings(deadline=None, max_examples=25)
@given(labels_inside)
def test_interpolation_is_multilinear_in_ln_flux(labels):
    library = Library.load()
    got = library.flux("B", [labels])[0, ::50].astype(np.float64)
    lower = [
        min(int(np.searchsorted(axis, x, "right")) - 1, axis.size - 2)
        for axis, x in zip(library.axes, labels, strict=True)
    ]
    expected = np.zeros_like(got)
    for corner in np.ndindex(2, 2, 2, 2):
        weight, node = 1.0, []
        for axis, place, step, x in zip(library.axes, lower, corner, labels, strict=True):
            fraction = (x - axis[place]) / (axis[place + 1] - axis[place])
            weight *= fraction if step else 1 - fraction
            node.append(axis[place + step])
        if weight > 0:  # on the edge of the domain there may be no node beyond
            expected += weight * np.log(library.flux("B", [node])[0, ::50].astype(np.float64))
    np.testing.assert_allclose(np.log(got), expected, atol=2e-5)


@settings(deadline=None, max_examples=25)
@given(st.lists(labels_inside, min_size=1, max_size=6))
def test_a_spectrum_hardly_depends_on_its_batch(labels):
    library = Library.load()
    together = library.flux("R", labels)
    alone = np.concatenate([library.flux("R", [row]) for row in labels])
    np.testing.assert_allclose(together, alone, rtol=2e-5)


def test_more_spectra_than_a_batch(library):
    labels = np.column_stack([np.linspace(4500, 7500, 2100), *np.full((3, 2100), [[4.5], [-0.2], [0.1]])])
    flux = library.flux("B", labels)
    np.testing.assert_allclose(flux[[0, 2047, 2048, -1]], library.flux("B", labels[[0, 2047, 2048, -1]]), rtol=2e-5)
    assert (np.diff(flux.mean(axis=1)) > 0).all(), "hotter stars are brighter per unit of surface"


def test_no_spectra(library):
    assert library.flux("B", np.empty((0, 4))).shape == (0, BLUE.library_pixels)
    assert library.outside(np.empty((0, 4))).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "code", "said"),
    [
        ((3400, 4, 0, 0), Outside.TEFF_LOW, "no library node below Teff 3500 K"),
        ((12400, 4, 0, 0), Outside.TEFF_HIGH, "no library node above Teff 10000 K"),
        ((5000, -0.1, 0, 0), Outside.LOGG_LOW, "below logg 0 "),
        ((5000, 5.01, 0, 0), Outside.LOGG_HIGH, "above logg 5 "),
        ((5000, 4, -2.1, 0), Outside.FEH_LOW, r"below \[Fe/H\] -2 "),
        ((5000, 4, 0.6, 0), Outside.FEH_HIGH, r"above \[Fe/H\] 0.5 "),
        ((5000, 4, 0, -0.6), Outside.ALPHA_LOW, r"below \[alpha/Fe\] -0.5 "),
        ((5000, 4, 0, 0.71), Outside.ALPHA_HIGH, r"above \[alpha/Fe\] 0.7 "),
        ((3400, 9, 9, 9), Outside.TEFF_LOW, "below Teff"),
        ((5100, 0.5, -1.2, 0), Outside.HOLE, "no nodes around row 1"),
        ((9000, 2.5, 0, 0), Outside.HOLE, "no nodes around row 1"),
        ((5000, np.nan, 0, 0), Outside.NOT_FINITE, "not a finite number"),
        ((np.inf, 4, 0, 0), Outside.NOT_FINITE, "not a finite number"),
    ],
)
def test_labels_outside_are_refused_with_row_value_and_cure(library, labels, code, said):
    rows = [(5000, 4, 0, 0), labels, (1, 1, 1, 1)]
    assert library.outside(rows).tolist() == [0, code, Outside.TEFF_LOW]
    with pytest.raises(OutsideLibraryError, match=said) as caught:
        library.flux("B", rows)
    assert "row 1" in str(caught.value)
    assert "drop the row" in str(caught.value)
    assert f"{labels[0]:g} K" in str(caught.value)


def test_the_edge_of_the_domain_is_inside_although_neighbours_are_missing(library):
    edge = [(8000, 2, 0, 0), (3500, 5, -1, 0.4), (10000, 3, 0.5, 0.7), (5500, 1, -2, -0.5), (3600, 0, -1.7, 0.7)]
    assert not library.outside(edge).any()
    assert not library.outside(np.array(edge, dtype=np.float32)).any()
    assert library.outside([(8001, 2, 0, 0), (8000, 1.99, 0, 0)]).tolist() == [Outside.HOLE] * 2


def test_labels_of_another_shape_and_unknown_arms_are_refused(library):
    with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
        library.flux("B", [5000, 4, 0, 0])
    with pytest.raises(ValueError, match="no arm is called 'G'"):
        library.flux("G", [[5000, 4, 0, 0]])


def test_pack_keeps_a_small_grid(tmp_path):
    content = small_grid(tmp_path / "grid.npz", drop=[3])
    attrs = pack(tmp_path / "grid.npz", tmp_path / "out.npz", components=6)
    assert attrs["nodes"] == 23
    assert attrs["components"] == 6
    assert attrs["relative_error"]["max"] < 2e-4
    library = Library.load(tmp_path / "out.npz")
    np.testing.assert_allclose(np.sort(library.nodes(), axis=0), np.sort(content["labels"], axis=0), atol=1e-6)
    expected = np.exp(content["lnflux_offset_red"][5] + 5e-5 * content["lnflux_code_red"][5].astype(float))
    np.testing.assert_allclose(library.flux("R", content["labels"][[5]])[0], expected, rtol=3e-4)
    assert library.outside([(5100, 3.5, -0.5, 0.2)]).tolist() == [Outside.HOLE]
    assert library.outside([(5100, 4.5, -0.5, 0.2)]).tolist() == [0]


def test_a_library_is_read_again_only_if_its_file_has_changed(tmp_path):
    small_grid(tmp_path / "grid.npz")
    out = tmp_path / "out.npz"
    pack(tmp_path / "grid.npz", out, components=6)
    first = Library.load(out)
    assert Library.load(str(out)) is first
    pack(tmp_path / "grid.npz", out, components=5)
    again = Library.load(out)
    assert again is not first
    assert again.coefficients.shape[1] == 5
    out.unlink()
    with pytest.raises(hashed_npz.PackedError, match="does not exist"):
        Library.load(out)


def test_a_library_cannot_be_changed_by_who_shares_it(library):
    for array in (*library.axes, library.index, library.coefficients, library.mean["B"], library.components["R"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    library.flux("B", [(5000, 4, 0, 0)])[0, 0] = 1.0  # what is computed belongs to the caller


@pytest.mark.parametrize("column", range(4))
def test_an_axis_of_a_single_value_has_only_that_value_inside(tmp_path, column):
    everything = small_grid(tmp_path / "grid.npz")["labels"]
    kept = small_grid(tmp_path / "grid.npz", drop=np.flatnonzero(everything[:, column] != everything[0, column]))
    labels = kept["labels"]
    pack(tmp_path / "grid.npz", tmp_path / "out.npz", components=6)
    library = Library.load(tmp_path / "out.npz")
    assert library.axes[column].size == 1
    label = labels[0].astype(np.float64)
    low, high = label.copy(), label.copy()
    low[column] -= 0.01
    high[column] += 0.01
    near = label.copy()
    near[column] *= 1 + 5e-7
    assert library.outside([label, near, low, high]).tolist() == [0, 0, 2 * column + 1, 2 * column + 2]
    expected = np.exp(kept["lnflux_offset_blue"][0] + 5e-5 * kept["lnflux_code_blue"][0].astype(float))
    np.testing.assert_allclose(library.flux("B", [label])[0], expected, rtol=3e-4)
    np.testing.assert_array_equal(library.flux("B", [near]), library.flux("B", [label]))
    with pytest.raises(OutsideLibraryError, match="no library node above"):
        library.flux("B", [high])


def literal_flux(library, name, labels):
    """What flux() did when the packaged library was the only one, word for word."""
    result = np.zeros((labels.shape[0], library.coefficients.shape[1]), dtype=np.float32)
    lower, fractions = [], []
    for column, axis in enumerate(library.axes):
        values = labels[:, column]
        place = np.clip(np.searchsorted(axis, values, side="right") - 1, 0, axis.size - 2)
        fraction = (values - axis[place]) / (axis[place + 1] - axis[place])
        fraction[np.abs(fraction) < 1e-6] = 0.0
        fraction[np.abs(fraction - 1.0) < 1e-6] = 1.0
        lower.append(place)
        fractions.append(fraction)
    for corner in np.ndindex(2, 2, 2, 2):
        weight = np.ones(labels.shape[0])
        for step, fraction in zip(corner, fractions, strict=True):
            weight *= fraction if step else 1.0 - fraction
        rows = library.index[tuple(place + step for place, step in zip(lower, corner, strict=True))]
        result += weight[:, None].astype(np.float32) * library.coefficients[np.maximum(rows, 0)]
    flux = np.matmul(result, library.components[name])
    flux += library.mean[name]
    return np.exp(flux)


def test_no_bit_of_the_packaged_library_s_spectra_has_changed(library):
    rng = np.random.default_rng(7)
    labels = rng.uniform((3400, -0.2, -2.2, -0.6), (10100, 5.2, 0.7, 0.8), size=(3000, 4))
    labels = labels[library.outside(labels) == 0][:300]
    assert len(labels) == 300
    for name in ARMS:
        np.testing.assert_array_equal(library.flux(name, labels), literal_flux(library, name, labels))
    assert library.digest == "a8de216bdfd4b05e30af4285ba2d9281", "the file that ships is the one that models knew"


def test_pack_refuses_what_is_no_grid(tmp_path):
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(ValueError, match=r"text.npz is not a grid"):
        pack(tmp_path / "text.npz", tmp_path / "out.npz")
    with pytest.raises(ValueError, match=r"none.npz is not a grid"):
        pack(tmp_path / "none.npz", tmp_path / "out.npz")
    small_grid(tmp_path / "grid.npz", wave_red=RED.library_wavelength * 1.0001)
    with pytest.raises(ValueError, match=r"the red wavelengths .* are not the library grid of arm R"):
        pack(tmp_path / "grid.npz", tmp_path / "out.npz")
    labels = small_grid(tmp_path / "grid.npz")["labels"]
    labels[1] = labels[0]
    small_grid(tmp_path / "grid.npz", labels=labels)
    with pytest.raises(ValueError, match="two nodes have the same labels"):
        pack(tmp_path / "grid.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_pack_runs_from_the_command_line(tmp_path, capsys):
    small_grid(tmp_path / "grid.npz")
    packing.main([str(tmp_path / "grid.npz"), str(tmp_path / "out.npz"), "--components", "5"])
    assert '"components": 5' in capsys.readouterr().out
