"""LAMOST MRS FITS files: read the old format (DR6 to DR8) and the new one (from DR9 on), and write files like them.

One file is one fibre on one plate in one night: coadds, which are ignored here, and every single exposure of both arms,
which are paired by their local modified Julian minute. Values come back as stored. Must never know of surveys, stores
or workers; whatever is wrong with a file leaves this module as a :class:`LamostError` or as a line in ``problems``.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, NATIVE_PIXELS, ArmName, arm
from twinlines.pipeline.lamost import frame, ordinary, times
from twinlines.pipeline.lamost.exposures import (
    ArmExposure,
    Exposure,
    LamostError,
    MrsFile,
    OutOfReachError,
    Reason,
    file_name,
    mid_exposure_bjd,
    mid_exposure_utc,
    starts_at,
)
from twinlines.pipeline.lamost.extensions import KEYWORDS, Extension, by_cfitsio
from twinlines.pipeline.lamost.unpacking import content_of, scratch_copy
from twinlines.pipeline.lamost.writer import write

__all__ = [
    "ArmExposure",
    "Exposure",
    "LamostError",
    "MrsFile",
    "OutOfReachError",
    "Reason",
    "file_name",
    "fold_mask",
    "mid_exposure_bjd",
    "mid_exposure_utc",
    "read",
    "write",
]

MASK_HIGHER_BITS = 0x80
"""Bit of the stored 8-bit mask that stands for every bit of PIXMASK above the seventh."""

MAXIMUM_EXPTIME = 86_400.0
"""Longest exposure that is believed, s: no night is longer, and what is far beyond has no date."""

HEADER_SNR_RATIO = 0.95
"""Header S/N over median(flux sqrt(ivar)), measured on DR7 files: 0.92 to 0.97. Used where a header has no S/N."""

_EXPOSURE_HDU = re.compile(r"([BR])-(\d{8})")
_FILE_NAME = re.compile(
    r"med-(?P<LMJD>\d{5})-(?P<PLANID>.+)_sp(?P<SPID>\d{2})-(?P<FIBERID>\d{3})\.(fits?|fts)(\.\w+)?",
    re.IGNORECASE,
)
_MAXIMUM_FLOAT32 = float(np.finfo(np.float32).max)
# The copy is ours and a moment old: that it cannot be opened (too many open files, no memory) is not the file's fault.
_OF_THE_SYSTEM = ("FITSIO status = 104:", "FITSIO status = 113:")


def read(path: Path) -> MrsFile:
    """Read one file, plain or compressed (told by its content), in either format (told by its columns).

    Extensions are found by name, ``B-<LMJM>`` and ``R-<LMJM>``, whatever their order and whatever else is there. An
    arm of an exposure that cannot be used counts as absent and leaves a line in ``problems``.

    Raises
    ------
    LamostError
        If the file cannot be read wholly, is not of this kind, or has no usable exposure.
    OutOfReachError
        If the system does not let us read it, which says nothing about the file.
    OSError
        If there is no room for a copy of it, which says nothing about the file either.
    """
    path = Path(path)
    content = content_of(path)
    extensions = ordinary.extensions(content, KEYWORDS)
    if extensions is not None:
        with _blaming(path):
            return _Reader(path, extensions).read()
    with scratch_copy(content) as scratch, _blaming(path, scratch), by_cfitsio(path, content, scratch) as others:
        return _Reader(path, others).read()


@contextmanager
def _blaming(path: Path, scratch: str | None = None) -> Iterator[None]:
    """Make whatever is raised within a refusal of the file; ``scratch`` is the copy that is read instead of it."""
    try:
        yield
    except LamostError:
        raise
    except (OSError, ValueError, TypeError, KeyError, IndexError, SystemError, RuntimeError) as error:
        detail = " ".join(str(error).replace(scratch or path.name, path.name).split()) or type(error).__name__
        if any(words in detail for words in _OF_THE_SYSTEM):
            raise OSError(errno.ENOMEM, f"cfitsio cannot open its copy ({detail})", scratch) from error
        raise LamostError(
            Reason.UNREADABLE, f"{path}: not readable as FITS ({detail}); fetch the file again"
        ) from error


class _ArmError(Exception):
    """One arm of one exposure cannot be used."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Reader:
    """Reads one open file and collects what is wrong with it."""

    def __init__(self, path: Path, extensions: Sequence[Extension]) -> None:
        self.path = path
        self.extensions = extensions
        self.problems: list[str] = []
        self.reasons: list[Reason] = []
        self.frames: dict[tuple[str, int], frame.Frame] = {}

    def read(self) -> MrsFile:
        header = self.extensions[0].header
        self.problems += [*frame.require_survey(self.path, header), *frame.unstated(header)]
        arms: dict[tuple[str, int], ArmExposure] = {}
        names = [extension.name.strip().upper() for extension in self.extensions]
        for extension, name in zip(self.extensions, names, strict=True):
            match = _EXPOSURE_HDU.fullmatch(name)
            if match is None:
                continue
            key = match[1], int(match[2])
            if key in arms:
                self.problems.append(f"{name}: a second extension of this name; the first is used")
                continue
            own = extension.header
            self.frames[key] = frame.frame_of(self.path, {**header, **own})
            try:
                arms[key] = self._arm(extension, own, name, arm(match[1]).name)
            except _ArmError as error:
                self.reasons.append(error.reason)
                self.problems.append(f"{name}: {error}; the arm counts as absent")
        if not arms:
            raise self._nothing_usable(names)
        minutes = sorted({lmjm for _, lmjm in arms})
        exposures = tuple(Exposure(lmjm, arms.get(("B", lmjm)), arms.get(("R", lmjm))) for lmjm in minutes)
        fields = self._metadata(header)
        self._compare_counts(header, names)
        date = _text(header, "DATE-BEG")
        file = MrsFile(**fields, exposures=exposures, date_beg=date, problems=tuple(self.problems))
        return frame.standardise(self.path, file, self.frames, header)

    def _nothing_usable(self, names: list[str]) -> LamostError:
        if self.reasons:
            return LamostError(
                self.reasons[0], f"{self.path}: no usable arm ({'; '.join(self.problems)}); leave the file out"
            )
        if any(name.startswith("COADD_") for name in names):
            return LamostError(
                Reason.NO_EXPOSURE, f"{self.path}: only coadds, no extension B-<LMJM> or R-<LMJM>; leave the file out"
            )
        return LamostError(
            Reason.WRONG_FORMAT,
            f"{self.path}: the extensions {names[:6]} are not a LAMOST MRS file's (B-<LMJM>, R-<LMJM>); leave it out",
        )

    def _metadata(self, header: Mapping[str, Any]) -> dict[str, Any]:
        match = _FILE_NAME.fullmatch(self.path.name)
        named = match.groupdict() if match else {}
        values = {key: header.get(key, named.get(key)) for key in ("OBSID", "LMJD", "SPID", "FIBERID", "RA", "DEC")}
        limits = {"OBSID": (0, 2**63 - 1), "LMJD": (0, 10**6), "SPID": (0, 2**15 - 1), "FIBERID": (0, 2**15 - 1)}
        fields: dict[str, Any] = {}
        for key, value in values.items():
            number = _number(value)
            low, high = limits.get(key, {"RA": (0.0, 360.0)}.get(key, (-90.0, 90.0)))
            if not low <= number <= high or (key in limits and number != int(number)):
                raise LamostError(
                    Reason.NO_METADATA,
                    f"{self.path}: the primary header has {key} = {value!r}, expected {low} to {high}; "
                    "repair the header or leave the file out",
                )
            fields[key.lower()] = int(value) if key in limits else number
        fields["planid"] = _text(header, "PLANID") or named.get("PLANID", "").strip()
        # A file name that is no UTF-8 reads as lone surrogates, which no store takes.
        fields["planid"] = fields["planid"].encode("utf-8", "backslashreplace").decode()
        return fields

    def _compare_counts(self, header: Mapping[str, Any], names: list[str]) -> None:
        for letter in ARM_NAMES:
            present = sum(name.startswith(f"{letter}-") for name in names)
            said = _number(header.get(f"NEXP_{letter}"))
            if math.isfinite(said) and said != present:
                self.problems.append(f"the header says NEXP_{letter} = {said:.0f}, the file has {present}")

    def _arm(self, extension: Extension, header: Mapping[str, Any], name: str, letter: ArmName) -> ArmExposure:
        if header.get("ZTABLE"):
            raise _ArmError(Reason.WRONG_FORMAT, "the table is packed by fpack; unpack the file with funpack")
        columns = _columns(extension)
        flux, ivar = (_pixels(columns, key).astype(np.float32) for key in ("FLUX", "IVAR"))
        loglam = _loglam(columns, letter)
        finite = np.isfinite(flux)
        if not np.any(finite & (flux != 0)):
            raise _ArmError(Reason.NO_FLUX, "flux is NaN or zero in every pixel")
        if not np.any(finite & np.isfinite(ivar) & (ivar > 0)):
            raise _ArmError(Reason.NO_IVAR, "no pixel has a positive inverse variance")
        stated, minute = _number(header.get("LMJM")), int(name[2:])
        if math.isfinite(stated) and stated != minute:
            self.problems.append(
                f"{name}: the keyword LMJM is {header.get('LMJM')!r}; the extension's name is believed"
            )
        snr = _number(header.get("SNR"))
        if not math.isfinite(snr):
            with np.errstate(invalid="ignore"):
                snr = max(0.0, HEADER_SNR_RATIO * float(np.nanmedian(flux * np.sqrt(ivar))))
            self.problems.append(
                f"{name}: no S/N in the header (SNR = {header.get('SNR')!r}); {snr:.2f} from the pixels"
            )
        exptime = _number(header.get("EXPTIME"))
        if not 0 < exptime <= MAXIMUM_EXPTIME:
            exptime = math.nan
            self.problems.append(f"{name}: EXPTIME is {header.get('EXPTIME')!r}; the exposure's time may be unknown")
        dates = _text(header, "DATE-BEG"), _text(header, "DATE-END")
        if dates[0] and not starts_at(dates[0], minute / times.MINUTES_PER_DAY):
            self.problems.append(f"{name}: DATE-BEG {dates[0]!r} is not within 2 min of LMJM, which is believed")
        mask = fold_mask(_pixels(columns, "PIXMASK")) if "PIXMASK" in columns else np.zeros(NATIVE_PIXELS, np.uint8)
        return ArmExposure(flux, ivar, loglam, mask, snr, exptime, *dates)


def _columns(extension: Extension) -> dict[str, NDArray[Any]]:
    """Return the columns that we know, by upper-case name."""
    if extension.kind != "BINARY_TBL":
        raise _ArmError(Reason.WRONG_FORMAT, f"the extension is a {extension.kind}, not a binary table")
    wanted = {"FLUX", "IVAR", "LOGLAM", "WAVELENGTH", "PIXMASK"}
    names = list(extension.columns)
    present = [name for name in names if name.upper() in wanted]
    if not present:
        raise _ArmError(Reason.WRONG_FORMAT, f"the table's columns are {names}")
    return {name.upper(): values for name, values in extension.read(present).items()}


def _text(header: Mapping[str, Any], key: str) -> str | None:
    value = header.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _number(value: object) -> float:
    """Return a header value as a number, however it was stored; NaN if it is none, or none that a float32 holds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    try:
        # FITS takes Fortran's D for an exponent, too.
        number = float(value.replace("D", "E") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= _MAXIMUM_FLOAT32 else math.nan


def _pixels(columns: Mapping[str, NDArray[Any]], key: str) -> NDArray[Any]:
    """Return one column's pixels: of as many rows as pixels, or of one row of vectors."""
    if key not in columns:
        raise _ArmError(Reason.WRONG_FORMAT, f"no column {key} among {sorted(columns)}")
    values = columns[key].reshape(-1)
    if values.dtype.kind not in "iufb":
        raise _ArmError(Reason.WRONG_FORMAT, f"column {key} holds {values.dtype}, not numbers")
    if values.size != NATIVE_PIXELS:
        raise _ArmError(Reason.WRONG_SIZE, f"{values.size} pixels in {key}, expected {NATIVE_PIXELS}")
    return values


def _loglam(columns: Mapping[str, NDArray[Any]], letter: ArmName) -> NDArray[np.float32]:
    """Return log10 of the wavelengths, checked against the arm's grid."""
    if "LOGLAM" in columns:
        loglam = _pixels(columns, "LOGLAM").astype(np.float32)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            loglam = np.log10(_pixels(columns, "WAVELENGTH").astype(np.float64)).astype(np.float32)
    grid = _ends(letter)
    if not np.all(np.isfinite(loglam)):
        raise _ArmError(Reason.OFF_GRID, f"{np.sum(~np.isfinite(loglam))} pixels have no wavelength")
    low, high = float(loglam.min()), float(loglam.max())
    if high <= grid[0] or low >= grid[1]:
        at = [f"{10.0**value:.1f}" if value < 9 else f"10^{value:.4g}" for value in (low, high, *grid)]
        raise _ArmError(
            Reason.OFF_GRID, f"wavelengths {at[0]} to {at[1]} A miss the grid of this arm, {at[2]} to {at[3]} A"
        )
    return loglam


@cache
def _ends(letter: ArmName) -> NDArray[np.float64]:
    """Ends of an arm's grid, log10 of the wavelength."""
    return np.asarray(arm(letter).loglam[[0, -1]])


def fold_mask(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Return bit masks of any width in eight bits: bits 0 to 6 as they are, bit 7 for it and all higher ones."""
    bits = mask if mask.dtype.kind in "iu" else mask.astype(np.int64)
    folded = bits.astype(np.uint8)
    if bits.dtype.itemsize > 1:
        np.bitwise_or(folded, MASK_HIGHER_BITS, out=folded, where=bits >> 8 != 0)
    return folded
