"""Which of a survey's own single spectra are injected, and the ensemble that judged its catalog."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import xarray as xr

from twinlines.models import checkpoint
from twinlines.pipeline.spectra.inference import NUMERICS as INFERENCE
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
from twinlines.pipeline.storage import atomic
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.synthesis.real_light import RealStarError
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.validation.injection.judging import Source
from twinlines.pipeline.validation.trust.classes import Classes, TrustError
from twinlines.pipeline.validation.trust.survey import CatalogStars


@dataclass(frozen=True)
class RealConfig:
    """Which of the survey's single spectra are used."""

    minimum_snr: float = 30.0
    """S/N that an exposure must have in both arms; binaries made of it have at most half of its own."""
    most: int = 120
    """Most single stars, the brightest of each type."""

    def __post_init__(self) -> None:
        if self.most < 2:
            raise TrustError(f"{self.most} single stars are asked for; give two or more")


Ensemble = tuple[Path, str, InferenceParameters]
"""Folder, digest and parameters."""


def ensemble_of(place: Survey, catalog: xr.Dataset, weights: str | Path | None) -> Ensemble:
    """Folder and digest of the ensemble that computed a catalog, and its parameters.

    Raises
    ------
    TrustError
        If it is not at hand, or this code would not compute what it has computed.
    """
    attrs = catalog.attrs
    wanted, told = str(attrs.get("weights_digest", "")), attrs.get("parameters", "{}")
    stored = json.loads(told) if isinstance(told, str) else dict(told)
    known = {item.name for item in fields(InferenceParameters)}
    parameters = InferenceParameters(**{name: value for name, value in stored.items() if name in known})
    if attrs.get("numerics") != INFERENCE or parameters.to_json() != stored:
        raise TrustError(
            f"the catalog {attrs.get('name')} was computed by another version of Twinlines, or with another library, "
            f"than would judge what is injected; 'twinlines run --survey {place}' computes it anew"
        )
    started = str(place.run(str(attrs.get("run", "none"))).description().get("weights", ""))
    choices = [Path(weights)] if weights else [Path(path) for path in (started, SHIPPED_WEIGHTS) if str(path)]
    for folder in choices:
        try:
            if checkpoint.digest(folder) == wanted:
                return folder.resolve(), wanted, parameters
        except checkpoint.CheckpointError:
            if weights:
                raise
    where = ", ".join(map(str, choices))
    raise TrustError(f"the catalog's ensemble ({wanted[:12]}) is not in {where}; give its folder (--weights)")


def source_of(
    place: Survey, stars: CatalogStars, real: RealConfig, classes: Classes, folder: Path
) -> tuple[Source, str]:
    """Write the list of single stars to take into a folder; say where it is, and the name of their release.

    They are of the release that has most: of each type in turn the brightest, each by its best file.

    Raises
    ------
    TrustError
        If no presumed single star is bright enough, or the release is gone.
    """
    exposures, catalog = stars.exposures, stars.catalog
    column = {name: catalog[name].values[exposures.row] for name in ("obsid", "snr_B", "snr_R", "release")}
    faintest = np.minimum(column["snr_B"], column["snr_R"])
    bright = np.isin(exposures.star, stars.nulls) & np.isfinite(exposures.teff) & (faintest > real.minimum_snr)
    if not bright.any():
        mine = faintest[np.isin(exposures.star, stars.nulls)]
        most = f"at most {mine.max():.1f}" if len(mine) else "no exposure"
        raise TrustError(
            f"no presumed single star has an exposure of S/N above {real.minimum_snr:g} in both arms ({most}); give "
            "more single stars (--nulls), or be content with less (--minimum-snr)"
        )
    names, counts = np.unique(column["release"][bright].astype(str), return_counts=True)
    name = str(names[counts.argmax()])
    release = {each.name: each for each in place.releases}.get(name)
    if release is None:
        raise TrustError(f"the catalog's rows are of {name}, which {place} has no more; restore it")
    rows = np.flatnonzero(bright & (column["release"].astype(str) == name))
    rows = rows[np.lexsort((exposures.name[rows], -faintest[rows]))]
    _, first = np.unique(exposures.star[rows], return_index=True)
    rows = rows[np.sort(first)]  # each star's best exposure, the brightest star first
    types = np.searchsorted(classes.teff, exposures.teff[rows], side="right")
    rank = np.zeros(len(rows), np.int64)
    for one in np.unique(types):
        rank[types == one] = np.arange(np.sum(types == one))
    rows = rows[np.argsort(rank, kind="stable")[: real.most]]
    lines = ["obsid,name,class,teff"]
    lines += [
        f"{column['obsid'][row]},{exposures.name[row]},{classes.teff_label(exposures.teff[row])},{exposures.teff[row]:g}"
        for row in rows[np.argsort(column["obsid"][rows])]
    ]
    table = folder / "stars.csv"
    content = ("\n".join(lines) + "\n").encode()
    if not table.exists() or table.read_bytes() != content:
        atomic.write_bytes(table, content)
    return Source(release.folder, table, real.minimum_snr), name


def light_of(source: Source) -> RealStars:
    """The stars.

    Raises
    ------
    TrustError
        If none of them can be used.
    """
    try:
        return source.load()
    except RealStarError as error:
        raise TrustError(f"{error}; give other single stars (--nulls), or another least S/N (--minimum-snr)") from error
