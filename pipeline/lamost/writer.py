"""Write exposures as a file of the survey's layout, old or new: mock releases, and tests of what reads real ones."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
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


def write(
    path: Path, file: MrsFile, layout: Layout = "rows", *, header: Mapping[str, HeaderValue] | None = None
) -> None:
    """Write ``file`` to ``path`` whole or not at all; gzipped if the name ends in ``.gz``.

    The same input gives the same bytes. Pixels survive bit for bit; S/N keeps two decimals, as in the survey's files.

    Parameters
    ----------
    path
        Where to; the survey's own name is :func:`twinlines.pipeline.lamost.exposures.file_name`.
    file
        What to write; ``problems`` are not stored.
    layout
        "rows": one row per pixel and LOGLAM (DR6 to DR8), where only the primary header has dates, those of the first
        exposure. "vectors": one row of vectors, WAVELENGTH, and each exposure's dates (from DR9 on).
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
    tables = [_coadd(name, arms[name], layout) for name in ARM_NAMES if arms[name]]
    tables += [_exposure(name, lmjm, found, layout, file.date_beg) for name in ARM_NAMES for lmjm, found in arms[name]]
    values = _primary_values(path, file, n_extensions=1 + len(tables)) | dict(header or {})
    content = lamost_layout.primary(values) + b"".join(tables)
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
    ]
    if layout == "vectors":
        of_first = primary_date and starts_at(primary_date, lmjm / times.MINUTES_PER_DAY)
        begin, end = _dates(lmjm, exposure, exposure.date_beg or (primary_date if of_first else None))
        cards += [
            Card("DATE-BEG", begin, "The observation start local time"),
            Card("DATE-END", end, "The observation end local time"),
        ]
    cards += _snr_and_lamp(exposure.snr)
    return lamost_layout.table(
        cards, _rows(layout, exposure.flux, exposure.ivar, exposure.loglam, {"PIXMASK": exposure.mask})
    )


def _coadd(name: ArmName, exposures: Sequence[tuple[int, ArmExposure]], layout: Layout) -> bytes:
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
    minutes = [str(lmjm) for lmjm, _ in exposures]
    cards = [
        Card("EXTNAME", f"COADD_{name}", "The extension name"),
        *(
            Card(f"LMJMLIS{i}", "-".join(minutes[3 * i : 3 * i + 3]), f"{_LMJM_COMMENT} list")
            for i in range(-(-len(minutes) // 3))
        ),
        *_snr_and_lamp(float(np.sqrt(sum(exposure.snr**2 for _, exposure in exposures)))),
    ]
    return lamost_layout.table(cards, _rows(layout, flux, weight, grid, {"ANDMASK": every, "ORMASK": some}))


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
    shape = () if layout == "rows" else (flux.size,)
    dtype = [(name, ">i2" if name in masks else ">f4", shape) for name in columns]
    rows = np.zeros(flux.size if layout == "rows" else 1, dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows
