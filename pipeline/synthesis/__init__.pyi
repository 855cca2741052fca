from twinlines.pipeline.synthesis.spectra import PairSpectra as PairSpectra
from twinlines.pipeline.synthesis.spectra import Scene as Scene
from twinlines.pipeline.synthesis.spectra import Stars as Stars
from twinlines.pipeline.synthesis.spectra import add_noise as add_noise
from twinlines.pipeline.synthesis.spectra import component as component
from twinlines.pipeline.synthesis.spectra import pair_spectra as pair_spectra
from twinlines.pipeline.synthesis.spectra import pairs as pairs
from twinlines.pipeline.synthesis.spectra import stars_of as stars_of
