from twinlines.pipeline.catalog.catalog import open as open  # noqa: A004
from twinlines.pipeline.catalog.questions import MAXIMUM_COLOUR as MAXIMUM_COLOUR
from twinlines.pipeline.catalog.questions import SB2 as SB2
from twinlines.pipeline.catalog.questions import SOURCE_RADIUS as SOURCE_RADIUS
from twinlines.pipeline.catalog.questions import CatalogError as CatalogError
