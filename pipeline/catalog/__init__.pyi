from twinlines.pipeline.catalog.catalog import MAXIMUM_COLOUR as MAXIMUM_COLOUR
from twinlines.pipeline.catalog.catalog import SB2 as SB2
from twinlines.pipeline.catalog.catalog import SOURCE_RADIUS as SOURCE_RADIUS
from twinlines.pipeline.catalog.catalog import CatalogError as CatalogError
from twinlines.pipeline.catalog.catalog import open as open  # noqa: A004
