from twinlines.pipeline.jobs.engine import Failure as Failure
from twinlines.pipeline.jobs.engine import JobError as JobError
from twinlines.pipeline.jobs.engine import Piece as Piece
from twinlines.pipeline.jobs.engine import compute as compute
from twinlines.pipeline.jobs.engine import is_full as is_full
