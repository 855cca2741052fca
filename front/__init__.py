"""Twinlines: double-lined binaries in survey spectra.

From a file to a verdict and its picture::

    import twinlines as tw

    spectra = tw.read_lamost("med-58646-TD192102N424113K01_sp12-076.fits.gz")
    verdict = tw.judge(spectra)
    tw.plot.exposure(spectra.isel(exposure=0), verdict)

Names are imported when they are used: this package costs milliseconds. What it offers stands in ``__init__.pyi``; all
else is in :mod:`twinlines.pipeline`, :mod:`twinlines.models` and :mod:`twinlines.cluster`.
"""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
