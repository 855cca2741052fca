from twinlines.pipeline.mock.release import MockConfig as MockConfig
from twinlines.pipeline.mock.release import MockDefects as MockDefects
from twinlines.pipeline.mock.release import MockError as MockError
from twinlines.pipeline.mock.release import MockTruth as MockTruth
from twinlines.pipeline.mock.release import make_release as make_release
