"""The content of an exposure as one number: whether a row is what another file, or an earlier release, has already.

Knows files as they are read; no store, so that a process that only reads starts quickly.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

import numpy as np

from twinlines.pipeline.lamost import reader
from twinlines.pipeline.lamost.exposures import Exposure, MrsFile

CONTENT_VERSION = 1
"""Raised when the reader gives other values for the same file, or their hash is made in another way."""


def content_hash(file: MrsFile, exposure: Exposure, mid_utc: float) -> int:
    """First 64 bits of BLAKE2b over all that results can depend on.

    That is pixels, masks, S/N, length, time, position and identifiers, but not the path: a copy is the same exposure.
    The time goes in as UTC of the telescope, not as BJD, whose last digits depend on the version of astropy.

    Parameters
    ----------
    file, exposure
        The exposure and the file it is from.
    mid_utc
        Middle of the exposure, modified Julian days, UTC.
    """
    planid = file.planid.encode()
    digest = hashlib.blake2b(digest_size=8, person=f"exposure {CONTENT_VERSION}".encode())
    digest.update(struct.pack("<5q", file.obsid, exposure.lmjm, file.lmjd, file.spid, file.fiberid))
    digest.update(struct.pack("<3dq", file.ra, file.dec, mid_utc, len(planid)) + planid)
    for name, arm in exposure.arms.items():
        digest.update(name.encode() + struct.pack("<2f", arm.snr, arm.exptime))
        for pixels in (arm.flux, arm.ivar, arm.loglam):
            digest.update(np.ascontiguousarray(pixels, "<f4").data)
        digest.update(np.ascontiguousarray(arm.mask, "u1").data)
    return int.from_bytes(digest.digest(), "little")


def contents(file: MrsFile) -> Iterator[tuple[Exposure, int, float]]:
    """Yield each exposure with its content hash and the middle of it, UTC."""
    for exposure, mid_utc in zip(file.exposures, reader.mid_exposure_utc(file).tolist(), strict=True):
        yield exposure, content_hash(file, exposure, mid_utc), mid_utc
