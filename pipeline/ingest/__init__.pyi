from twinlines.pipeline.ingest.ingestion import ingest as ingest
from twinlines.pipeline.ingest.report import Conflict as Conflict
from twinlines.pipeline.ingest.report import FileWarning as FileWarning
from twinlines.pipeline.ingest.report import IngestReport as IngestReport
from twinlines.pipeline.ingest.report import Quarantined as Quarantined
from twinlines.pipeline.ingest.tasks import IngestError as IngestError
