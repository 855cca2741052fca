"""Verdicts, with the accessor by which they are asked: ``verdict.sb2.candidates()``."""

from __future__ import annotations

import twinlines.pipeline.catalog.questions  # noqa: F401 (gives Datasets their accessor)
from twinlines.pipeline.spectra.judging import judge, judge_arrays

__all__ = ["judge", "judge_arrays"]
