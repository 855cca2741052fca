from twinlines.pipeline.testing.binaries import mock_exposures as mock_exposures
from twinlines.pipeline.testing.exposures import random_arm as random_arm
from twinlines.pipeline.testing.exposures import random_file as random_file
from twinlines.pipeline.testing.exposures import with_arm as with_arm
from twinlines.pipeline.testing.realstars import star_spectrum as star_spectrum
from twinlines.pipeline.testing.realstars import write_star as write_star
from twinlines.pipeline.testing.realstars import write_stars as write_stars
