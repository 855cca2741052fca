"""A survey with two-star fits and stars, and its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from twinlines.pipeline.binaries.fits import survey as fits
from twinlines.pipeline.binaries.sources import survey as stars
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.mock.release import MockConfig, MockDefects, make_release
from twinlines.pipeline.report.document import write_report
from twinlines.pipeline.spectra.inference import InferenceParameters
from twinlines.pipeline.survey import compute


@pytest.fixture(scope="module")
def survey(client: Client, untrained_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of a mock release that was run, fitted and grouped into stars."""
    folder = tmp_path_factory.mktemp("report") / "survey"
    none = MockDefects(**dict.fromkeys(MockDefects.__dataclass_fields__, 0))
    config = replace(MockConfig(), defects=none, nights=(2, 2), exposures=(2, 2), median_snr=40.0)
    make_release(folder.parent / "files", stars=6, seed=4, config=config)
    ingest(client, folder.parent / "files", folder, "dr1")
    compute.run(client, folder, weights=untrained_weights, parameters=InferenceParameters(n_draws=1))
    assert fits.fit(client, folder, everything=True).complete
    stars.make_sources(folder)
    return folder


@pytest.fixture(scope="module")
def report(survey: Path) -> Path:
    """Its report."""
    return write_report(survey, survey.parent / "report.html").path
