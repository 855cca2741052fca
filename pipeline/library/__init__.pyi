from twinlines.pipeline.library.library import Library as Library
from twinlines.pipeline.library.library import Outside as Outside
from twinlines.pipeline.library.library import OutsideLibraryError as OutsideLibraryError
