"""Constants are recovered from stars of the model, and stars that tell nothing are refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pipeline.binaries.evidence.conftest import Draw
from twinlines.pipeline.binaries.evidence.fitting import begin, fit, known_of
from twinlines.pipeline.binaries.evidence.model import SB1, SINGLE, Calibration
from twinlines.pipeline.schema import JOINT


def test_chances_are_recovered(draw: Draw, plain: Calibration) -> None:
    exposures, star, kind = draw(900, sb2=0.4, sb1=0.2, nights=(3, 6))
    fitted = fit(known_of(exposures, star, kind), begin(), JOINT, common=True)
    assert fitted.shows.middle[JOINT] == pytest.approx(plain.shows.middle[JOINT], abs=0.5)
    assert fitted.shows.scatter[JOINT] == pytest.approx(plain.shows.scatter[JOINT], abs=0.4)
    # How rare a disturbance is on the whole; how much of that is stars that are often disturbed, few of these tell.
    mean, true = (each.disturbed.middle[JOINT] + each.disturbed.scatter[JOINT] ** 2 / 2.0 for each in (fitted, plain))
    assert mean == pytest.approx(true, abs=0.8)
    assert fitted.varies[SB1] == pytest.approx(plain.varies[SB1], abs=1.0)
    # What no star of this sample was judged by stays where it began.
    assert fitted.shows.middle["B"] == begin().shows.middle["B"]


def test_stars_of_all_kinds_are_needed(draw: Draw) -> None:
    exposures, star, kind = draw(30, sb1=0.5)
    with pytest.raises(ValueError, match="no star of the kind SB1"):
        fit(known_of(exposures, star, np.where(kind == SB1, SINGLE, kind)), begin(), JOINT, common=True)
