"""Which packages there are: each folder with an ``__init__.py``, at any depth, of the four that the package is made of.

Everything else about the package is in ``pyproject.toml``; setuptools can find sub-packages there only if folders are
named like packages, and ours are ``pipeline``, not ``twinlines/pipeline``.
"""

import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup

HOUSES = {
    "twinlines": "front",
    "twinlines.pipeline": "pipeline",
    "twinlines.models": "models",
    "twinlines.cluster": "cluster",
}
LINKS = Path(".editable")


def linked() -> dict[str, str]:
    """Lay links to the four folders out as the package is, and say where.

    An editable install of folders under other names would hang on an import hook, which type checkers do not run; this
    one is a folder on the path. A file that is new in ``front`` needs another ``pip install -e .``; the others do not.
    """
    shutil.rmtree(LINKS, ignore_errors=True)
    package = LINKS / "twinlines"
    package.mkdir(parents=True)
    for path in (*Path("front").glob("[!.]*.*"), *map(Path, ("pipeline", "models", "cluster"))):
        (package / path.name).symlink_to(path.resolve())
    return {"": str(LINKS)}


setup(
    package_dir=linked() if "editable_wheel" in sys.argv else HOUSES,
    packages=[
        name
        for house, folder in HOUSES.items()
        for name in (house, *(f"{house}.{room}" for room in find_packages(folder)))
    ],
)
