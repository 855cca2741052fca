"""Conditions in words: what they mean, and what they may not say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.catalog import blockwise, catalog
from twinlines.pipeline.catalog.expression import DEEPEST, LONGEST, ColumnKind, ExpressionError, Kind, parse
from twinlines.pipeline.schema import Quality
from twinlines.pipeline.survey.folder import Survey

MEANINGS: dict[str, Callable[[Any], Any]] = {
    "snr_B > 20": lambda c: c["snr_B"] > 20,
    "10 < snr_B <= 20.5": lambda c: (c["snr_B"] > 10) & (c["snr_B"] <= 20.5),
    "pb_pct_J_16[0] > 0.3 and snr_B > 20": lambda c: (c["pb_pct_J_16"][:, 0] > 0.3) & (c["snr_B"] > 20),
    "pb_pct_J_16.p84 > 0.9 or pb_pct_B_16.p50 < 0.1": lambda c: (
        (c["pb_pct_J_16"][:, 3] > 0.9) | (c["pb_pct_B_16"][:, 2] < 0.1)
    ),
    "not snr_B > 20": lambda c: ~(c["snr_B"] > 20),
    "not (snr_B > 20 and snr_R > 20)": lambda c: ~((c["snr_B"] > 20) & (c["snr_R"] > 20)),
    "snr_B - snr_R > 2 * (snr_B + snr_R) / 4": lambda c: (
        c["snr_B"].astype(float) - c["snr_R"] > 2 * (c["snr_B"].astype(float) + c["snr_R"]) / 4
    ),
    "-dec > 33 and abs(dec) ** 2 > 33 ** 2": lambda c: (-c["dec"] > 33) & (np.abs(c["dec"]) ** 2 > 33**2),
    "obsid // 100 == 7000000 and lmjm % 2 == 1": lambda c: (c["obsid"] // 100 == 7000000) & (c["lmjm"] % 2 == 1),
    "bprp0 != 1.0": lambda c: np.isfinite(c["bprp0"]) & (c["bprp0"] != 1.0),
    "1.0 != bprp0": lambda c: np.isfinite(c["bprp0"]) & (c["bprp0"] != 1.0),
    "bprp0 not in (1.0, 2.0)": lambda c: np.isfinite(c["bprp0"]) & ~np.isin(c["bprp0"], (1.0, 2.0)),
    "not bprp0 in (1.0, 2.0)": lambda c: ~np.isin(c["bprp0"], (1.0, 2.0)),
    "isnan(bprp0)": lambda c: np.isnan(c["bprp0"]),
    "isfinite(bprp0) and log10(snr_B) > 1 and sqrt(snr_R) > 3": lambda c: (
        np.isfinite(c["bprp0"]) & (np.log10(c["snr_B"]) > 1) & (np.sqrt(c["snr_R"]) > 3)
    ),
    "min(snr_B, snr_R) > 20 and max(npixbad_B, npixbad_R) < 100": lambda c: (
        (np.minimum(c["snr_B"], c["snr_R"]) > 20) & (np.maximum(c["npixbad_B"], c["npixbad_R"]) < 100)
    ),
    "quality_B & UNFAMILIAR": lambda c: (c["quality_B"] & Quality.UNFAMILIAR) > 0,
    "not (quality_B | quality_R) & UNFAMILIAR": lambda c: ((c["quality_B"] | c["quality_R"]) & 256) == 0,
    "quality_B & (BAD_PIXELS | UNFAMILIAR) == 260": lambda c: (c["quality_B"] & 260) == 260,
    "quality_B & ~UNFAMILIAR == 0": lambda c: (c["quality_B"] & ~np.uint16(256)) == 0,
    "quality_B & 4 != 0": lambda c: (c["quality_B"] & 4) != 0,
    "quality_B ^ quality_R == 256": lambda c: (c["quality_B"] ^ c["quality_R"]) == 256,
    "quality_B == 0": lambda c: c["quality_B"] == 0,
    "specflag_B and not specflag_R": lambda c: c["specflag_B"] & ~c["specflag_R"],
    "specflag_B == 0": lambda c: ~c["specflag_B"],
    "specflag_B != specflag_R": lambda c: c["specflag_B"] != c["specflag_R"],
    "(snr_B > 20) & ~(snr_R > 20)": lambda c: (c["snr_B"] > 20) & ~(c["snr_R"] > 20),
    "planid == 'TD3N' and release != \"dr8\"": lambda c: (c["planid"] == "TD3N") & (c["release"] != "dr8"),
    "planid in ('TD3N', 'TD5N')": lambda c: (c["planid"] == "TD3N") | (c["planid"] == "TD5N"),
    "quality_R not in (0, 128)": lambda c: (c["quality_R"] != 0) & (c["quality_R"] != 128),
    "content_hash > 9223372036854775808": lambda c: c["content_hash"] > np.uint64(2**63),
    "ra >= 0 or not ra >= 0": lambda c: np.ones(len(c["ra"]), bool),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_condition_is_what_it_says(text: str, sky: xr.Dataset, whole: Survey) -> None:
    columns = {str(name): column.values for name, column in sky.variables.items()}
    with np.errstate(all="ignore"):
        expected = np.flatnonzero(MEANINGS[text](columns))
    assert 0 < len(expected) <= len(columns["ra"])
    for rows in (sky, catalog.open(whole.path)):
        assert rows.sb2.where(text)["lmjm"].values.tolist() == columns["lmjm"][expected].tolist()


def test_blocks_are_as_long_as_memory_allows(sky: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "BLOCK_ROWS", 700)
    seen: list[int] = []
    chosen = blockwise.blockwise(lambda c: (seen.append(len(c["ra"])), c["ra"] > 9.0)[1], sky, ["ra"], np.bool_)
    assert seen == [700, 700, 700, 500]
    assert (chosen == (sky["ra"].values > 9.0)).all()
    mixed = sky.chunk(exposure=600).assign(snr_B=sky["snr_B"].load())  # one column in memory
    text = "snr_B > 50 and pb_pct_J_16[4] > 0.5"
    assert mixed.sb2.where(text)["lmjm"].values.tolist() == sky.sb2.where(text)["lmjm"].values.tolist()


REFUSED = {
    "snr_C > 3": r"'snr_C' is no column of the catalog; did you mean snr_R or snr_B\?",
    "SNR_B > 3": r"did you mean snr_B",
    "quality_B & UNFAMILAR": r"did you mean UNFAMILIAR\?",
    "zzzz > 3": r"'zzzz' is no column of the catalog; the columns are obsid, lmjm",
    "pb_pct_J_16 > 0.5": r"'pb_pct_J_16' has 5 values a row; write pb_pct_J_16\[0\] to pb_pct_J_16\[4\], or .*\.p50",
    "pb_pct_J_16[5] > 0.5": r"'pb_pct_J_16\[5\]' is no value of pb_pct_J_16, which has 5 a row",
    "pb_pct_J_16[-1] > 0.5": "is no value of pb_pct_J_16",
    "pb_pct_J_16[0:2] > 0.5": "is no value of pb_pct_J_16",
    "pb_pct_J_16[True] > 0.5": "is no value of pb_pct_J_16",
    "pb_pct_J_16.p51 > 0.5": r"is no percentile of pb_pct_J_16; write .*p50",
    "pb_pct_J_16.values > 0.5": "is no percentile",
    "snr_B[0] > 3": "asks for one of several values, and snr_B has one a row; write snr_B",
    "snr_B.__class__ > 3": "asks for one of several values",
    "(snr_B + 1).real > 3": "only a column that has several values a row takes a place",
    "snr_B": "'snr_B' is a number, and no condition; compare it with something",
    "snr_B + 3": "is a number, and no condition",
    "planid": "is text, and no condition",
    "snr_B and snr_R > 3": "'snr_B' is a number, and no condition",
    "snr_B > 20 & npixbad_B < 100": "'20 & npixbad_B' combines bits, and one side is a number; between",
    "snr_B > 20 & quality_B == 0": "compares bits with a column of numbers; between conditions write 'and'",
    "quality_R == 4 & quality_B == 0": "compares bits in a chain; between conditions write 'and'",
    "snr_B > quality_B & 4": "compares bits with a column of numbers",
    "snr_B | snr_R": "combines bits",
    "20 & 4 == 4": "combines bits, and neither side has flags",
    "quality_B & -1": "combines bits",
    "quality_B & 1.5": "combines bits",
    "~snr_B": "turns bits around, and that is a number",
    "quality_B + 1 > 3": "calculates with bits and a number; it needs two numbers",
    "planid + 'x' == 'y'": "calculates with text and text",
    "-planid == 'x'": "needs a number, and that is text",
    "snr_B > 'high'": "compares a number with text",
    "planid > 'TD'": "asks which text is more",
    "specflag_B == 2": "compares true or false with a number",
    "snr_B is None": "equals nothing; isnan",
    "bprp0 == nan": "equals nothing; isnan",
    "snr_B is 3": "is not known here",
    "snr_B in snr_R": "looks in something that is no list",
    "snr_B in ()": "looks in something that is no list",
    "snr_B in (snr_R, 3)": "does not hold numbers or texts alone",
    "snr_B in ('a', 3)": "compares a number with text",
    "__import__('os').system('true')": "calls something; the functions that are known here are isnan",
    "eval('1') > snr_B": "calls something",
    "sqr(snr_B) > 3": r"calls something; did you mean sqrt\? the functions",
    "planid.upper() == 'X'": "calls something",
    "isnan(bprp0, snr_B)": "isnan takes 1 value",
    "abs(snr_B, out=snr_R) > 3": "abs takes 1 value",
    "min(*snr_B) > 3": "min takes 2 values",
    "isnan(planid)": "needs a number, and that is text",
    "[snr_B for snr_B in (1,)]": "is not known here",
    "(lambda: snr_B)() > 3": "calls something",
    "snr_B > 3 if snr_R > 3 else snr_R > 5": "is not known here",
    "(x := snr_B) > 3": "is not known here",
    "snr_B @ snr_R > 3": "is not known here",
    "quality_B << 3": "is not known here",
    "f'{snr_B}' == 'x'": "is not known here",
    "{1: snr_B} == 3": "is not known here",
    "b'x' == planid": "is no number and no text",
    "snr_B > 3j": "is no number and no text",
    "snr_B > ...": "is no number and no text",
    "1 > 0": "names no column",
    "snr_B > 1e999": "is too large a number",
    "snr_B > " + "9" * 400: "is too large a number",
    "": "is no expression",
    "   ": "is no expression",
    "snr_B >": "is no expression",
    "snr_B = 3": "is no expression",
    "snr_B > 3; snr_R > 3": "is no expression",
    "import os": "is no expression",
    "snr_B > 3\x00": "is no expression",
    "snr_B > 3 and " * 200 + "snr_R > 3": f"the longest that is taken has {LONGEST}",
    "(" * 900 + "snr_B" + ")" * 900 + " > 3": "is no expression",
    "not " * 400 + "snr_B > 3": f"nested more than {DEEPEST} levels deep",
    "-" * 1900 + "snr_B > 3": "levels deep|is no expression",
    "snr_B" + " + 1" * 60 + " > 3": "levels deep",
}


@pytest.mark.parametrize("text", REFUSED, ids=[text[:30] for text in REFUSED])
def test_what_is_no_condition_is_refused_before_anything_is_read(text: str, sky: xr.Dataset) -> None:
    with pytest.raises(ExpressionError, match=REFUSED[text]):
        sky.sb2.where(text)


def test_numbers_that_overflow_are_no_error(sky: xr.Dataset) -> None:
    assert sky.sb2.where("9 ** 9 ** 9 > snr_B and snr_B / 0 > 1").sizes["exposure"] > 0
    assert sky.sb2.where("log10(-snr_B) > 0").sizes["exposure"] == 0


_KINDS = {
    "a": ColumnKind(Kind.NUMBER),
    "q": ColumnKind(Kind.FLAGS),
    "b": ColumnKind(Kind.BOOL),
    "t": ColumnKind(Kind.TEXT),
    "p": ColumnKind(Kind.NUMBER, (0, 50, 100)),
}
_VALUES = {
    "a": np.array([1.0, np.nan, -3.0], np.float32),
    "q": np.array([0, 4, 260], np.uint16),
    "b": np.array([True, False, True]),
    "t": np.array(["x", "", "y"], object),
    "p": np.arange(9.0).reshape(3, 3),
}
_WORDS = ["a", "q", "b", "t", "p", "p[1]", "p.p50", "1", "'x'", "(", ")", "not", "and", "or", "&", "|", "~", "-", "+"]
_WORDS += ["<", "==", "in", "(1, 2)", "isnan(", "min(", ",", "UNFAMILIAR", "**", "//"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=9))
def test_any_row_of_words_is_a_condition_or_refused(words: list[str]) -> None:
    try:
        expression = parse(" ".join(words), _KINDS)
    except ExpressionError:
        return
    answer = expression(_VALUES)
    assert (answer.shape, answer.dtype) == ((3,), np.bool_)


def test_pairs_of_kinds_are_compared_or_refused() -> None:
    sides = ["a", "q", "b", "t", "p[0]", "q & 4", "1", "True", "'x'", "UNFAMILIAR"]
    for left, how, right in itertools.product(sides, ("<", "==", "!=", "+", "&"), sides):
        text = f"({left} {how} {right}) == 1" if how in "+&" else f"{left} {how} {right}"
        try:
            expression = parse(text, _KINDS)
        except ExpressionError:
            continue
        assert expression(_VALUES).shape == (3,), text
