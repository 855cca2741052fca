from twinlines.pipeline.jobs.engine import Failure as Failure
from twinlines.pipeline.survey.compute import RunReport as RunReport
from twinlines.pipeline.survey.compute import run as run
from twinlines.pipeline.survey.folder import Survey as Survey
from twinlines.pipeline.survey.releases import SurveyError as SurveyError
