from twinlines import plot as plot
from twinlines._judging import judge as judge
from twinlines._judging import judge_arrays as judge_arrays
from twinlines._loading import load_ensemble as load_ensemble
from twinlines._loading import load_library as load_library
from twinlines._loading import load_tracks as load_tracks
from twinlines._version import __version__ as __version__
from twinlines.pipeline.binaries.export import export as export
from twinlines.pipeline.binaries.fits.store import open_fits as open_fits
from twinlines.pipeline.binaries.sources.binary import open_binary as open_binary
from twinlines.pipeline.binaries.sources.binary import solve_binary as solve_binary
from twinlines.pipeline.binaries.sources.questions import open_catalog as open_catalog
from twinlines.pipeline.binaries.sources.questions import open_sources as open_sources
from twinlines.pipeline.binaries.sources.solutions import open_orbits as open_orbits
from twinlines.pipeline.binaries.twostar.fit import fit_pair as fit_pair
from twinlines.pipeline.lamost.dataset import read_lamost as read_lamost
from twinlines.pipeline.mock.release import make_release as mock_release
from twinlines.pipeline.spectra.judging import ccf as ccf
from twinlines.pipeline.spectra.quality import explain as explain
from twinlines.pipeline.training.sample import synthesize as synthesize
from twinlines.pipeline.validation.trust.survey import open_calibrated as open_calibrated

# Names that are others here are re-exported only if they are listed.
__all__ = [
    "__version__",
    "ccf",
    "explain",
    "export",
    "fit_pair",
    "judge",
    "judge_arrays",
    "load_ensemble",
    "load_library",
    "load_tracks",
    "mock_release",
    "open_binary",
    "open_calibrated",
    "open_catalog",
    "open_fits",
    "open_orbits",
    "open_sources",
    "plot",
    "read_lamost",
    "solve_binary",
    "synthesize",
]
