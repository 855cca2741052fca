from twinlines.pipeline.figures.canvas import new_figure as new_figure
from twinlines.pipeline.figures.canvas import save as save
from twinlines.pipeline.figures.demo import epochs as epochs
from twinlines.pipeline.figures.demo import probability_by_separation as probability_by_separation
from twinlines.pipeline.figures.demo import velocity_residuals as velocity_residuals
from twinlines.pipeline.mock.showpiece import Epoch as Epoch
