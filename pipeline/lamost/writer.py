"""Write exposures as a file of the survey's layout, old or new: mock releases, and tests of what reads real ones."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.lamost import layout as lamost_layout
from twinlines.pipeline.lamost import times
from twinlines.pipeline.lamost.exposures import ArmExposure, MrsFile, file_name, starts_at
from twinlines.pipeline.lamost.layout import Card, HeaderValue
from twinlines.pipeline.storage import atomic

Layout = Literal["rows", "vectors"]

COADD_STEP_DEX = 1.0e-5
"""Step of coadds in log10(wavelength), dex a pixel; measured on DR7 files."""

_LMJM_COMMENT = "Local Modified Julian Minute"
_MINUTES_OF_ONE_CARD = 7


def write(
    path: Path, file: MrsFile, layout: Layout = "rows", *, header: Mapping[str, HeaderValue] | None = None
) -> None:
    """Write ``file`` to ``path`` whole or not at all; gzipped if the name ends in ``.gz``.

    The same input gives the same bytes. Pixels survive bit for bit, in the new layout by ascending wavelength; S/N
    keeps two decimals, as in the survey's files.

    Parameters
    ----------
    path
        Where to; the survey's own name is :func:`twinlines.pipeline.lamost.exposures.file_name`.
    file
        What to write; ``problems`` are not stored.
    layout
        "rows": one row per pixel and LOGLAM (DR6 to DR8), where only the primary header has dates, those of the first
        exposure. "vectors" (from DR9 on): one row of vectors, WAVELENGTH, pixels of both arms by ascending wavelength,
        and each exposure's dates; the primary header's go from the first exposure's start to the last one's end.
    header
        Other keywords of the primary header, e.g. ``{"OBJNAME": "..."}``.

    Raises
    ------
    ValueError
        If there is no exposure, or a keyword is unknown or too long.
    OSError
        If the file cannot be written.
    """
    if not file.exposures:
        raise ValueError(f"{path}: no exposure to write")
    arms = {name: [(e.lmjm, e.arms[name]) for e in file.exposures if name in e.arms] for name in ARM_NAMES}
    if layout == "vectors":
        arms = {name: [(lmjm, _ascending(arm)) for lmjm, arm in several] for name, several in arms.items()}
    tables = [_coadd(name, arms[name], layout, file.date_beg) for name in ARM_NAMES if arms[name]]
    tables += [
        _exposure(name, lmjm, exposure, layout, file.date_beg) for name in ARM_NAMES for lmjm, exposure in arms[name]
    ]
    values = _primary_values(path, file, n_extensions=1 + len(tables))
    template = lamost_layout.PRIMARY
    if layout == "vectors":
        template = lamost_layout.PRIMARY_DR9
        last = file.exposures[-1]
        _, end = _span(last.lmjm, next(iter(last.arms.values())), file.date_beg)
        values |= _dates_of(str(values["DATE-BEG"]), end)
    content = lamost_layout.primary({**values, **(header or {})}, template) + b"".join(tables)
    atomic.write_bytes(path, gzip.compress(content, compresslevel=6, mtime=0) if path.suffix == ".gz" else content)


def _primary_values(path: Path, file: MrsFile, n_extensions: int) -> dict[str, HeaderValue]:
    first = file.exposures[0]
    an_arm = next(iter(first.arms.values()))
    begin, end = _dates(first.lmjm, an_arm, file.date_beg or an_arm.date_beg)
    middle_utc = (times.mjd_of_date(begin) + times.mjd_of_date(end)) / 2 - times.LOCAL_MINUS_UTC
    star = SkyCoord(file.ra * u.deg, file.dec * u.deg, frame="icrs")
    counts = {name: sum(name in e.arms for e in file.exposures) for name in ARM_NAMES}
    return {
        "FILENAME": path.name.removesuffix(".gz") or file_name(file),
        "OBSID": file.obsid,
        "N_EXTEN": n_extensions,
        "DATE": times.date_of_mjd(file.lmjd + 1.0, "seconds"),
        "DATE-OBS": times.date_of_mjd(np.floor(middle_utc * 1440) / 1440, "seconds"),
        "DATE-BEG": begin,
        "DATE-END": end,
        "LMJD": file.lmjd,
        "MJD": file.lmjd - 1,
        "PLANID": file.planid,
        "RA": file.ra,
        "DEC": file.dec,
        "RA_OBS": file.ra,
        "DEC_OBS": file.dec,
        "GL": float(star.galactic.l.deg),
        "GB": float(star.galactic.b.deg),
        "DESIG": f"LAMOST J{_sexagesimal(star)}",
        "SPRA": file.ra,
        "SPDEC": file.dec,
        "FIBERID": file.fiberid,
        "SPID": file.spid,
        **{f"NEXP_{name}": count for name, count in counts.items()},
        **{f"COMBIN_{name}": count > 0 for name, count in counts.items()},
    }


def _ascending(exposure: ArmExposure) -> ArmExposure:
    """An arm with its pixels by ascending wavelength."""
    order = np.argsort(exposure.loglam, kind="stable")
    pixels = {name: getattr(exposure, name)[order] for name in ("flux", "ivar", "loglam", "mask")}
    return replace(exposure, **pixels)


def _dates_of(begin: str, end: str) -> dict[str, HeaderValue]:
    """The three dates of a span in local time; the middle is of UTC, to the minute below."""
    middle = (times.mjd_of_date(begin) + times.mjd_of_date(end)) / 2 - times.LOCAL_MINUS_UTC
    minute = np.floor(middle * times.MINUTES_PER_DAY) / times.MINUTES_PER_DAY
    return {"DATE-OBS": times.date_of_mjd(minute, "seconds"), "DATE-BEG": _short(begin), "DATE-END": _short(end)}


def _short(date: str) -> str:
    """A date with as many digits of a second as it needs, one at least."""
    whole, _, fraction = date.partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


_DATE_COMMENTS = {
    "DATE-OBS": "The observation median UTC",
    "DATE-BEG": "The observation start local time",
    "DATE-END": "The observation end local time",
}
_NORM = Card("NORM", 0, "1 if there exists a normalizated spectrum")
_NO_NORMALIZATION = -9999.0


def _date_cards(begin: str, end: str) -> list[Card]:
    return [Card(key, value, _DATE_COMMENTS[key]) for key, value in _dates_of(begin, end).items()]


def _sexagesimal(star: SkyCoord) -> str:
    ra = star.ra.to_string(unit=u.hour, sep="", precision=2, pad=True)
    dec = star.dec.to_string(unit=u.deg, sep="", precision=1, pad=True, alwayssign=True)
    return f"{ra}{dec}"


def _dates(lmjm: int, exposure: ArmExposure, begin: str | None) -> tuple[str, str]:
    """Return an exposure's start and end in local time; without a date, it starts half a minute after its LMJM."""
    start = times.mjd_of_date(begin) if begin else (lmjm + 0.5) / times.MINUTES_PER_DAY
    length = exposure.exptime / 86_400.0 if exposure.exptime > 0 else 0.0
    return begin or times.date_of_mjd(start), exposure.date_end or times.date_of_mjd(start + length)


def _exposure(name: ArmName, lmjm: int, exposure: ArmExposure, layout: Layout, primary_date: str | None) -> bytes:
    exptime = exposure.exptime if exposure.exptime > 0 else 0.0
    cards = [
        Card("EXTNAME", f"{name}-{lmjm}", "The extension name"),
        Card("LMJM", str(lmjm), _LMJM_COMMENT),
        Card("EXPTIME", int(exptime) if exptime == int(exptime) else exptime, "[s] Exposure duration time"),
        *_snr_and_lamp(exposure.snr),
    ]
    if layout == "vectors":
        cards[1:1] = [_NORM, *_date_cards(*_span(lmjm, exposure, primary_date))]
    return lamost_layout.table(
        cards, _rows(layout, exposure.flux, exposure.ivar, exposure.loglam, {"PIXMASK": exposure.mask})
    )


def _span(lmjm: int, exposure: ArmExposure, primary_date: str | None) -> tuple[str, str]:
    """Start and end of an exposure in local time."""
    of_first = primary_date and starts_at(primary_date, lmjm / times.MINUTES_PER_DAY)
    return _dates(lmjm, exposure, exposure.date_beg or (primary_date if of_first else None))


def _coadd(
    name: ArmName, exposures: Sequence[tuple[int, ArmExposure]], layout: Layout, primary_date: str | None
) -> bytes:
    """Return a coadd as simple as one can be: interpolation to constant step, mean weighted by inverse variance."""
    low = max(float(e.loglam.min()) for _, e in exposures)
    high = min(float(e.loglam.max()) for _, e in exposures)
    steps = np.arange(np.ceil(low / COADD_STEP_DEX), np.floor(high / COADD_STEP_DEX) + 1)
    grid = steps * COADD_STEP_DEX
    total, weight = np.zeros(grid.size), np.zeros(grid.size)
    every, some = np.full(grid.size, 0xFF, np.int16), np.zeros(grid.size, np.int16)
    for _, exposure in exposures:
        order = np.argsort(exposure.loglam, kind="stable")
        loglam = exposure.loglam[order].astype(np.float64)
        flux, ivar = (np.nan_to_num(values[order].astype(np.float64)) for values in (exposure.flux, exposure.ivar))
        weights = np.maximum(np.interp(grid, loglam, ivar), 0.0)
        total += weights * np.interp(grid, loglam, flux)
        weight += weights
        mask = exposure.mask[order][np.searchsorted(loglam, grid).clip(max=loglam.size - 1)].astype(np.int16)
        every &= mask
        some |= mask
    flux = np.divide(total, weight, out=np.zeros(grid.size), where=weight > 0)
    snr, lamp = _snr_and_lamp(float(np.sqrt(sum(exposure.snr**2 for _, exposure in exposures))))
    cards = [Card("EXTNAME", f"COADD_{name}", "The extension name")]
    if layout == "vectors":
        begin, end = (_span(*exposures[place], primary_date)[place] for place in (0, -1))
        cards += [_NORM, *_minutes(exposures, _MINUTES_OF_ONE_CARD), *_date_cards(begin, end), lamp, snr]
    else:
        cards += [*_minutes(exposures, 3), snr, lamp]
    return lamost_layout.table(cards, _rows(layout, flux, weight, grid, {"ANDMASK": every, "ORMASK": some}))


def _minutes(exposures: Sequence[tuple[int, ArmExposure]], of_a_card: int) -> list[Card]:
    """LMJM of a coadd's exposures, so many in a card; the new layout has one card for all that it has room for."""
    minutes = [str(lmjm) for lmjm, _ in exposures]
    if of_a_card == _MINUTES_OF_ONE_CARD and len(minutes) <= of_a_card:
        return [Card("LMJMLIST", "-".join(minutes), f"{_LMJM_COMMENT} list")]
    return [
        Card(f"LMJMLIS{number}", "-".join(minutes[start : start + of_a_card]), f"{_LMJM_COMMENT} list")
        for number, start in enumerate(range(0, len(minutes), of_a_card))
    ]


def _snr_and_lamp(snr: float) -> list[Card]:
    return [
        Card("SNR", max(0.0, snr), "Signal to noise ratio", 2),
        Card("LAMPLIST", "lampsc_med.dat", "Arc lamp emission line list"),
    ]


def _rows(
    layout: Layout,
    flux: NDArray[np.floating],
    ivar: NDArray[np.floating],
    loglam: NDArray[np.floating],
    masks: Mapping[str, NDArray[np.integer]],
) -> NDArray[np.void]:
    """Return the table: a row per pixel with LOGLAM, or a row of vectors with WAVELENGTH in Angstrom."""
    # 32 bits of wavelength are six times finer than 32 bits of its logarithm, which therefore survives the detour.
    wave = ("LOGLAM", loglam) if layout == "rows" else ("WAVELENGTH", 10.0 ** loglam.astype(np.float64))
    columns = {"FLUX": flux, "IVAR": ivar, wave[0]: wave[1], **masks}
    if layout == "vectors":
        columns["NORMALIZATION"] = np.full(flux.size, _NO_NORMALIZATION)
    shape = () if layout == "rows" else (flux.size,)
    dtype = [(name, ">i2" if name in masks else ">f4", shape) for name in columns]
    rows = np.zeros(flux.size if layout == "rows" else 1, dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows
