"""Tables that people write become values of fields, or an error that says what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from twinlines.cluster import settings

READERS = {
    "name": settings.text,
    "share": settings.number,
    "count": settings.whole_number,
    "on": settings.switch,
    "unit": settings.one_of(("nm", "micron")),
}


class WrongError(ValueError):
    pass


@dataclass(frozen=True)
class Setting:
    share: float = 0.5
    limit: float | None = None
    kept_by_us: bytes = b""


def test_a_table_sets_the_fields_that_it_names() -> None:
    written = {"name": "a", "share": 1, "count": 3, "on": False, "unit": "nm"}
    values = settings.read_table(written, READERS, "set.toml:", WrongError)
    assert values == written
    assert isinstance(values["share"], float)
    assert settings.read_table({"name": None}, READERS, "site.yaml:", WrongError) == {}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([1], r"^set\.toml is \[1\]; give a table$"),
        ({"cuont": None}, r"^set\.toml: there is no 'cuont' \(did you mean 'count'\?\); there are name, share, count"),
        ({"count": 1.0}, r"^set\.toml: count is 1\.0; give a whole number$"),
        ({"count": True}, "count is True; give a whole number"),
        ({"share": "half"}, "share is 'half'; give a number"),
        ({"name": 7}, "name is 7; give text; put it in quotes"),
        ({"on": 1}, "on is 1; give true or false"),
        ({"unit": "micorn"}, r"unit is 'micorn'; give one of nm, micron \(did you mean 'micron'\?\)"),
    ],
)
def test_what_is_wrong_is_shown_with_its_place_and_a_cure(written: object, said: str) -> None:
    with pytest.raises(WrongError, match=said):
        settings.read_table(written, READERS, "set.toml:", WrongError)


def test_the_place_of_a_table_within_a_table_is_named() -> None:
    with pytest.raises(WrongError, match=r"set\.toml: extras\.blends\.share is 'x'"):
        settings.read_table({"share": "x"}, READERS, "set.toml: extras.blends", WrongError)
    with pytest.raises(WrongError, match=r"set\.toml: extras: there is no 'blend'"):
        settings.read_table({"blend": {}}, READERS, "set.toml: extras", WrongError)


def test_fields_are_read_by_their_annotations() -> None:
    assert settings.readers_of(Setting, {"float": settings.number}) == {
        "share": settings.number,
        "limit": settings.number,
    }


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text("a = [")
    for name in ("set.toml", "none.toml"):
        with pytest.raises(WrongError, match=f"{name} cannot be read as TOML"):
            settings.read_toml(tmp_path / name, WrongError)
