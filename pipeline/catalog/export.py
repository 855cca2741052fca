"""A catalog as a FITS table: the columns of Table 4 of Zhang et al. (2022), in its names, order, formats, units.

Or all that the catalog has: those columns, and after them the others.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

import fitsio
import numpy as np
import xarray as xr
from astropy.io.fits import Header
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.schema import CATALOG, TABLE4, Quality, Variable

Columns = Literal["table4", "all"]
"""Which columns a table has."""

_UNFAMILIAR = {f"unfamiliar_{arm}": f"quality_{arm}" for arm in ARM_NAMES}
_BOOLEAN = Variable(("exposure",), "bool", "", "Whether a quality has the bit UNFAMILIAR")
_BLOCK_ROWS = 65536
_FITS_BLOCK = 2880


class ExportError(RuntimeError):
    """A table cannot be written as asked."""


def export(catalog: xr.Dataset, path: Path, *, columns: Columns = "table4", overwrite: bool = False) -> int:
    """Write the rows of a catalog as a FITS table, and return their number.

    Text columns are as wide as their longest entry. Rows are streamed, so a catalog of any size needs the memory of one
    block.

    Parameters
    ----------
    catalog
        A catalog, or rows of one, or results.
    path
        File to write.
    columns
        "table4" for the paper's 34; "all" for these and what else the catalog has of
        :data:`twinlines.pipeline.schema.CATALOG`, quality bits and hashes as integers, and, for tables' users who know
        no bits, ``unfamiliar_B`` and ``unfamiliar_R``.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    ExportError
        If ``columns`` is none of the two, ``path`` exists and ``overwrite`` is not set, or is not named ``.fits`` or
        ``.fits.gz``, or its folder does not exist, or it could not be written wholly.
    """
    if columns not in ("table4", "all"):
        raise ExportError(f"columns is {columns!r}; give 'table4' (the paper's 34) or 'all'")
    chosen = dict(TABLE4)
    if columns == "all":
        chosen |= {name: variable for name, variable in CATALOG.variables.items() if name in catalog.variables}
        chosen |= {name: _BOOLEAN for name, quality in _UNFAMILIAR.items() if quality in catalog.variables}
    return write(catalog, path, chosen, overwrite=overwrite)


def write(rows: xr.Dataset, path: Path, variables: Mapping[str, Variable], *, overwrite: bool = False) -> int:
    """Write some variables of exposures as a FITS table, in their order, and return the number of rows.

    Parameters
    ----------
    rows
        Exposures; their attributes of a catalog go into the header.
    path
        File to write.
    variables
        What to write, by name.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    ExportError
        As :func:`export`.
    """
    if not path.name.endswith((".fits", ".fits.gz")):
        raise ExportError(f"{path} is not named .fits or .fits.gz, and FITS is the format of the export")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists already; choose another name or allow it to be overwritten")
    path = path.resolve()  # a link stays, and what it leads to is replaced
    if not path.parent.is_dir():
        raise ExportError(f"there is no folder {path.parent} to write {path.name} in; make it first")
    count = rows.sizes["exposure"]
    chosen = dict(variables)
    widths = {name: _width(rows, name) for name, variable in chosen.items() if variable.dtype == "str"}
    with _partial(path) as partial:
        with fitsio.FITS(partial, "rw") as fits:
            for start in range(0, max(count, 1), _BLOCK_ROWS):
                block = rows.isel(exposure=slice(start, start + _BLOCK_ROWS)).load()
                records = _records(block, chosen, widths)
                if start == 0:
                    units = [variable.units for variable in chosen.values()]
                    fits.write(records, extname="TWINLINES", units=units, header=_header(rows))
                else:
                    fits[1].append(records)
        _check_whole(path, Path(partial))
    return count


def _width(catalog: xr.Dataset, name: str) -> int:
    return max(1, max((len(text) for text in catalog[name].values.tolist()), default=1))


def _header(catalog: xr.Dataset) -> list[dict[str, object]]:
    attrs = catalog.attrs
    cards = (
        ("RELEASE", attrs.get("releases", [])[-1:], "newest release"),
        ("RUN", [attrs["run"]] if "run" in attrs else [], "key of weights, parameters and numerics"),
        ("WEIGHTS", [attrs["weights_digest"]] if "weights_digest" in attrs else [], "digest of the ensemble"),
    )
    return [
        {"name": key, "value": str(value)[:68], "comment": comment}
        for key, values, comment in cards
        for value in values
    ]


def _check_whole(path: Path, written: Path) -> None:
    """Refuse a file that is shorter than its headers say: cfitsio keeps a full disk to itself."""
    last = b""
    reader = gzip.open if written.suffix == ".gz" else Path.open
    # ValueError and KeyError: what astropy says of half a header.
    with suppress(OSError, EOFError, ValueError, KeyError), reader(written, "rb") as file:
        Header.fromfile(file)
        table = Header.fromfile(file)
        size = table["NAXIS1"] * table["NAXIS2"]
        file.seek(file.tell() + -(-size // _FITS_BLOCK) * _FITS_BLOCK - 1)
        last = file.read(1)
    if not last:
        raise ExportError(f"{path} could not be written wholly; make room on the disk and export again")


@contextmanager
def _partial(path: Path) -> Iterator[str]:
    """Name of a file to write instead of ``path``, which it becomes in the end; of letters that mean nothing.

    cfitsio takes brackets and parentheses in a name for its own syntax and writes another file: it is given a link to
    the folder, and a name of ours.
    """
    suffix = ".fits.gz" if path.name.endswith(".gz") else ".fits"
    # A name of its own: two may export to one path at a time, and the last one's table stays.
    partial = path.with_name(f".partial-{uuid4().hex}{suffix}")
    try:
        with tempfile.TemporaryDirectory(prefix="twinlines-") as scratch:
            there = Path(scratch) / "there"
            there.symlink_to(path.parent.resolve(), target_is_directory=True)
            yield str(there / partial.name)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            said = str(error).splitlines()[0]  # further lines name the link
            raise ExportError(f"{path} cannot be written ({said}); make room or choose another place") from error
        raise


def _records(block: xr.Dataset, columns: dict[str, Variable], widths: dict[str, int]) -> NDArray[np.void]:
    """Rows as a structured array in the columns' names, order and formats."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
    for name, variable in columns.items():
        if variable.dtype == "str":
            fields.append((name, f"S{widths[name]}"))
        elif len(variable.dims) == 1:
            fields.append((name, np.dtype(variable.dtype).str))
        else:
            fields.append((name, np.dtype(variable.dtype).str, block[name].shape[1:]))
    records = np.empty(block.sizes["exposure"], dtype=fields)
    for name, variable in columns.items():
        values = block[name].values if name not in _UNFAMILIAR else _unfamiliar(block, name)
        if variable.dtype == "str":
            values = np.array([text.encode("ascii", "replace") for text in values.tolist()], dtype=f"S{widths[name]}")
        records[name] = values
    return records


def _unfamiliar(block: xr.Dataset, name: str) -> NDArray[np.bool_]:
    """Whether no star of the library, and no two, explain an arm's spectrum."""
    return np.asarray((block[_UNFAMILIAR[name]].values & int(Quality.UNFAMILIAR)) > 0)
