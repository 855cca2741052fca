"""How a LAMOST MRS file looks, byte by byte: header cards in order, their formats and comments, binary tables.

The layouts were read off files of DR7 (old format, one row per pixel) and DR9 (new format, one row of vectors). No FITS
library writes them: they all put their own cards and their own order first. Knows bytes and values, no exposure;
:mod:`twinlines.pipeline.lamost.writer` uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HeaderValue = str | int | float | bool

BLOCK = 2880
"""Bytes; headers and data are padded to whole multiples."""

CARD = 80
"""Bytes of one line of a header."""


@dataclass(frozen=True)
class Card:
    """A keyword of a header: its name, its value unless another is given, and how it is written."""

    key: str
    """Keyword, up to eight characters."""
    value: HeaderValue
    """Value; in a template, the default."""
    comment: str = ""
    """Comment behind the slash, without its leading blank."""
    decimals: int | None = None
    """Digits after the point of a number that the survey writes in fixed point; otherwise the value's own."""
    tight: bool = False
    """Whether the comment follows the slash at once, as it does in some of the survey's cards."""

    def image(self, value: HeaderValue | None = None) -> str:
        """Return the card's 80 characters, with ``value`` in place of its own if given.

        Raises
        ------
        ValueError
            If key and value leave no room for each other in 80 characters.
        """
        head = f"{self.key:<8}= {self._field(self.value if value is None else value)} /"
        if len(head) - 2 > CARD:
            raise ValueError(f"header keyword {self.key}: the value {value!r} is too long for a card; shorten it")
        return f"{head}{'' if self.tight else ' '}{self.comment}".rstrip()[:CARD].ljust(CARD)

    def _field(self, value: HeaderValue) -> str:
        if isinstance(value, bool | np.bool_):
            return f"{'T' if value else 'F':>20}"
        if isinstance(value, str):
            quoted = "'" + value.replace("'", "''").ljust(8) + "'"
            return f"{quoted:<20}"
        if self.decimals is not None:
            return f"{value:>20.{self.decimals}f}"
        return f"{value!r:>20}" if isinstance(value, int) else f"{float(value)!r:>20}"


def _plain(text: str) -> str:
    return text.ljust(CARD)


def _pad(data: bytes, fill: bytes) -> bytes:
    return data + fill * (-len(data) % BLOCK)


def header(images: Iterable[str]) -> bytes:
    """Return a header unit: the cards, END, and blanks up to a multiple of 2880 bytes."""
    return _pad("".join([*images, _plain("END")]).encode("ascii", "replace"), b" ")


PRIMARY: tuple[str | Card, ...] = (
    "COMMENT --------FILE INFORMATION",
    Card("FILENAME", ""),
    Card("OBSID", 0, "Unique number ID of this spectrum"),
    Card("AUTHOR", "LAMOST Pipeline", "Who compiled the information"),
    Card("DATA_V", "mock", "Data release version"),
    Card("N_EXTEN", 1, "The extension number"),
    Card("EXTNAME", "Information", "The extension name"),
    Card("ORIGIN", "NAOC-LAMOST", "Organization responsible for creating this file"),
    Card("DATE", "", "Time when this HDU is created (UTC)"),
    "COMMENT --------TELESCOPE PARAMETERS",
    Card("TELESCOP", "LAMOST", "GuoShouJing Telescope"),
    Card("LONGITUD", 117.58, "[deg] Longitude of site", 2),
    Card("LATITUDE", 40.39, "[deg] Latitude of site", 2),
    Card("FOCUS", 19964, "[mm] Telescope focus"),
    Card("CAMPRO", "NEWCAM", "Camera program name"),
    Card("CAMVER", "v2.0", "Camera program version"),
    "COMMENT --------OBSERVATION PARAMETERS",
    Card("DATE-OBS", "", "The observation median UTC"),
    Card("DATE-BEG", "", "The observation start local time"),
    Card("DATE-END", "", "The observation end local time"),
    Card("LMJD", 0, "Local Modified Julian Day"),
    Card("MJD", 0, "Modified Julian Day"),
    Card("PLANID", "", "Plan ID in use"),
    Card("RA", 0.0, "[deg] Right ascension of object", 6),
    Card("DEC", 0.0, "[deg] Declination of object", 6),
    Card("RA_OBS", 0.0, "[deg] Right ascension during observing", 6),
    Card("DEC_OBS", 0.0, "[deg] Declination during observing", 6),
    Card("OFFSET", False, "Whether there's a offset during observing"),
    Card("OFFSET_V", 0.0, "Offset value in arcsecond", 2),
    Card("GL", 0.0, "[deg] Galactic longitude of object", 6),
    Card("GB", 0.0, "[deg] Galactic latitude of object", 6),
    Card("DESIG", "", "Designation of LAMOST target"),
    Card("FIBERID", 0, "Fiber ID of Object"),
    Card("CELL_ID", "", "Fiber Unit ID on the focal plane"),
    Card("X_VALUE", 0.0, "[mm] X coordinate of object on the focal plane", 3),
    Card("Y_VALUE", 0.0, "[mm] Y coordinate of object on the focal plane", 3),
    Card("OBJNAME", "", "Name of object"),
    Card("OBJTYPE", "Star", "Object type from input catalog"),
    Card("TSOURCE", "", "Name of input catalog"),
    Card("TCOMMENT", "", "Target information"),
    Card("TFROM", "", "Target catalog"),
    Card("FIBERTYP", "Obj", "Fiber type of object"),
    Card("FIBERMAS", 0, "Bitmask of warning values, 0 means all is well"),
    Card("MAGTYPE", "g", "Magnitude type of object"),
    *(Card(f"MAG{i}", 99.0, f"[mag] Mag{i} of object", 2) for i in range(1, 8)),
    Card("OBS_TYPE", "OBJ", "The type of target (OBJ, FLAT, ARC or BIAS)"),
    Card("OBSCOMM", "Science", "Science or Test"),
    Card("RADECSYS", "FK5", "Equatorial coordinate system"),
    Card("EQUINOX", 2000.0, "Equinox in years", 2),
    Card("SKYLIST", "skylines.dat", "Sky emission line list"),
    Card("NEXP_B", 0, "Number of valid blue exposures"),
    Card("COMBIN_B", False, "Whether the combined data of B band exists"),
    Card("NEXP_R", 0, "Number of valid red exposures"),
    Card("COMBIN_R", False, "Whether the combined data of R band exists"),
    Card("SCAMEAN", 0.0, "[ADU] Mean level of scatter light", 2),
    "COMMENT --------SPECTROGRAPH PARAMETERS",
    Card("SPID", 0, "Spectrograph ID"),
    Card("SPRA", 0.0, "[deg] Average RA of this spectrograph", 7),
    Card("SPDEC", 0.0, "[deg] Average DEC of this spectrograph", 7),
    Card("SLIT_MOD", "x2/3", "Slit mode, x1, x2/3 or x1/2"),
    "COMMENT --------WEATHER CONDITION",
    Card("SEEING", 3.0, "[arcsec] Seeing during exposure", 2),
    Card("MOONPHA", 0.0, "[day] Moon phase for a 29.53 days period", 2),
    Card("TEMP_AIR", 0.0, "[deg] Temperature outside dome", 2),
    Card("TEMP_FP", 0.0, "[degree celsius] Temprature of the focalplane", 2),
    Card("DEWPOINT", 0.0, "[deg]", 2),
    Card("DUST", "", "Reservation"),
    Card("HUMIDITY", 0.0, "", 2),
    Card("WINDD", 0.0, "[deg] Wind direction", 2),
    Card("WINDS", 0.0, "[m/s] Wind speed", 2),
    Card("SKYLEVEL", "", "Reservation"),
    "COMMENT --------DATA REDUCTION PARAMETERS",
    Card("EXTRACT", "aperture", "Extraction method"),
    Card("SFLATTEN", True, "Super flat has been applied"),
    Card("PCASKYSB", True, "PCA sky-subtraction has been applied"),
    Card("NSKIES", 20, "Sky fiber number"),
    Card("SKYCHI2", 1.0, "Mean chi^2 of sky-subtraction", 1),
    Card("HELIO", True, "Heliocentric correction"),
    Card("HELIO_RV", 0.0, "[km/s] Heliocentric correction", 5),
    Card("VACUUM", True, "Wavelengths are in vacuum"),
)
"""The primary header behind its mandatory cards, to DR8. Spelling as the survey has it."""


def _from_dr9(card: str | Card) -> Iterator[str | Card]:
    key = card.key if isinstance(card, Card) else ""
    if key == "DATA_V":
        yield Card("DATA_V", "mock", "Data version")
    elif key == "FIBERTYP":
        yield Card("FIB_TYPE", "Obj", "Fiber type of object", tight=True)
    elif key == "FIBERMAS":
        yield Card("FIB_MASK", 0, "Bitmask of warning values, 0 means good", tight=True)
    elif key == "MAGTYPE":
        yield from (Card(name, 99.0, "[mag] Magnitude of object", 2) for name in ("MAG_BP", "MAG_RP"))
    elif not key.startswith("MAG"):
        yield card


PRIMARY_DR9: tuple[str | Card, ...] = tuple(new for card in PRIMARY for new in _from_dr9(card))
"""The same from DR9 on."""


def primary(values: Mapping[str, HeaderValue], template: tuple[str | Card, ...] = PRIMARY) -> bytes:
    """Return the primary header unit with ``values`` in place of the template's defaults.

    Parameters
    ----------
    values
        Values by keyword.
    template
        :data:`PRIMARY` or :data:`PRIMARY_DR9`.

    Raises
    ------
    ValueError
        If a value belongs to no keyword of the template.
    """
    unknown = sorted(set(values) - {card.key for card in template if isinstance(card, Card)})
    if unknown:
        raise ValueError(f"a LAMOST MRS primary header has no keyword {unknown}; leave it out")
    images = [
        _plain("SIMPLE  =                    T /Primary Header created by MWRFITS v1.11b"),
        _plain("BITPIX  =                   16 /"),
        _plain("NAXIS   =                    0 /"),
        _plain("EXTEND  =                    T /Extensions may be present"),
        _plain(""),
        *(_plain(card) if isinstance(card, str) else card.image(values.get(card.key)) for card in template),
    ]
    return header(images)


_FORMATS = {"f4": "E", "f8": "D", "i2": "I"}


def table(cards: Iterable[Card], rows: NDArray[np.void]) -> bytes:
    """Return a binary table extension: header and data units.

    Parameters
    ----------
    cards
        The extension's own keywords, EXTNAME first.
    rows
        Structured array of shape (row,); fields may be vectors. It is stored big-endian.
    """
    names = rows.dtype.names or ()
    fields = [rows.dtype[name] for name in names]
    forms = [f"{'' if f.shape == () else f.shape[0]}{_FORMATS[f.base.str[1:]]}" for f in fields]
    images = [
        _plain("XTENSION= 'BINTABLE'           /Binary table written by MWRFITS v1.11b"),
        *(
            _plain(f"{key:<8}= {value:>20} /{comment}")
            for key, value, comment in (
                ("BITPIX", 8, "Required value"),
                ("NAXIS", 2, "Required value"),
                ("NAXIS1", rows.dtype.itemsize, "Number of bytes per row"),
                ("NAXIS2", len(rows), "Number of rows"),
                ("PCOUNT", 0, "Normally 0 (no varying arrays)"),
                ("GCOUNT", 1, "Required value"),
                ("TFIELDS", len(names), "Number of columns in table"),
            )
        ),
        *_title("End of mandatory fields"),
        *(card.image() for card in cards),
        *_title("Column names"),
        *(Card(f"TTYPE{i}", name).image() for i, name in enumerate(names, 1)),
        *_title("Column formats"),
        *(Card(f"TFORM{i}", form).image() for i, form in enumerate(forms, 1)),
    ]
    return header(images) + _pad(rows.astype(rows.dtype.newbyteorder(">")).tobytes(), b"\0")


def _title(text: str) -> list[str]:
    return [_plain("COMMENT"), _plain(f"COMMENT  *** {text} ***"), _plain("COMMENT")]
