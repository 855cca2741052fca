"""Cards of headers: what is read of them is what cfitsio reads."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
import pytest

from twinlines.pipeline.lamost import reader
from twinlines.pipeline.lamost.extensions import KEYWORDS, OfCfitsio
from twinlines.pipeline.testing.exposures import random_file


@pytest.mark.parametrize(
    "card",
    [
        b"SNR     =                 12.5 / Signal to noise ratio",
        b"SNR     = 12",
        b"SNR     = 1.25D1 / Fortran's exponent",
        b"SNR     = -1.E-40",
        b"SNR     =                  NaN",
        b"SNR     = inf",
        b"SNR     = 99999999999999999999",
        b"SNR     = 12_3",
        b"SNR     = T",
        b"SNR     =",
        b"SNR     =                      / nothing",
        b"SNR       12.5",
        b"snr     = 3.5",
        b"SNR     = '12.5  '           / quoted",
        b"SNR     = 'it''s / one'      / quoted",
        b"SNR     = 'not closed",
        b"SNR     = 25-3",
        b"COMMENT = 12.5",
    ],
)
def test_the_cards_we_look_at_say_what_cfitsio_reads(card: bytes, tmp_path: Path) -> None:
    reader.write(tmp_path / "x.fits", random_file(1, 1))
    content = (tmp_path / "x.fits").read_bytes()
    start = content.index(b"SNR     =")
    content = content[:start] + card.ljust(80) + content[start + 80 :]
    (tmp_path / "x.fits").write_bytes(content)
    with fitsio.FITS(str(tmp_path / "x.fits")) as hdus:
        for hdu in hdus:
            found = OfCfitsio(hdu, content).header
            all_of_it = {str(record["name"]).upper(): record["value"] for record in hdu.read_header_list()}
            for key in KEYWORDS:
                ours, theirs = (reader._number(header.get(key)) for header in (found, all_of_it))
                np.testing.assert_equal(ours, theirs)
                if np.isnan(ours):
                    assert reader._text(found, key) == reader._text(all_of_it, key)


def test_a_card_that_is_no_ascii_costs_its_value_and_not_the_file(tmp_path: Path) -> None:
    reader.write(tmp_path / "x.fits", random_file(1, 1))
    content = (tmp_path / "x.fits").read_bytes()
    start = content.rindex(b"SNR     =")  # of an exposure; coadds come first
    (tmp_path / "x.fits").write_bytes(content[:start] + b"SNR     = '\xe9\xff'".ljust(80) + content[start + 80 :])
    (problem,) = reader.read(tmp_path / "x.fits").problems
    assert "no S/N in the header" in problem
