from twinlines.pipeline.evaluation.evaluation import Logits as Logits
from twinlines.pipeline.evaluation.evaluation import Options as Options
from twinlines.pipeline.evaluation.evaluation import evaluate as evaluate
from twinlines.pipeline.evaluation.limit import Limit as Limit
from twinlines.pipeline.evaluation.report import EvaluationReport as EvaluationReport
from twinlines.pipeline.evaluation.tasks import EvaluationError as EvaluationError
