"""Which packages there are: each folder with an ``__init__.py``, at any depth, of the four that the package is made of.

Everything else about the package is in ``pyproject.toml``; setuptools can find sub-packages there only if folders are
named like packages, and ours are ``pipeline``, not ``twinlines/pipeline``.
"""

from setuptools import find_packages, setup

HOUSES = {
    "twinlines": "front",
    "twinlines.pipeline": "pipeline",
    "twinlines.models": "models",
    "twinlines.cluster": "cluster",
}

setup(
    package_dir=HOUSES,
    packages=[
        name
        for house, folder in HOUSES.items()
        for name in (house, *(f"{house}.{room}" for room in find_packages(folder)))
    ],
)
