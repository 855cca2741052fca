from twinlines.pipeline.testing.exposures import random_arm as random_arm
from twinlines.pipeline.testing.exposures import random_file as random_file
from twinlines.pipeline.testing.exposures import with_arm as with_arm
