"""What a worker does with some injected binaries: expose them, and send them through the whole chain.

Velocity, rest frame, continuum and verdict are those of a survey's run: the same inference, of the same weights and
parameters as computed the catalog.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.cluster.workers import device, kept_object
from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.catalog import questions  # noqa: F401 (the accessor ``sb2``)
from twinlines.pipeline.jobs.answers import Answer
from twinlines.pipeline.schema import RESULTS
from twinlines.pipeline.spectra.inference import ArmSpectra, Inference, InferenceParameters
from twinlines.pipeline.synthesis import injection
from twinlines.pipeline.synthesis.light import Stars
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.validation.injection.draws import Injections


@dataclass(frozen=True)
class Source:
    """Where the real stars are."""

    folder: Path
    """Folder of a release."""
    table: Path
    """CSV file that lists the stars to take."""
    minimum_snr: float
    """S/N that an exposure must have in both arms."""

    def load(self) -> RealStars:
        """The stars; read once as long as no file changes."""
        return RealStars.load(self.folder, self.table, minimum_snr=self.minimum_snr)


@dataclass(frozen=True)
class InjectionTask:
    """Some injected binaries, which one task judges."""

    injections: Injections
    """The binaries."""
    source: Source
    """Where their stars are, which decides nothing."""
    digest: str
    """Content hash of the real stars."""
    release: str
    """Name of their release."""

    @property
    def question(self) -> str:
        """What is asked: a hash of all that decides what is exposed."""
        digest = hashlib.sha256(self.digest.encode())
        for item in fields(Injections):
            digest.update(np.ascontiguousarray(getattr(self.injections, item.name)).tobytes())
        return digest.hexdigest()

    def __str__(self) -> str:
        number = self.injections.number
        return f"{len(number)} binaries of stars of {self.release} from number {number[0]} on"


def load(weights: str, digest: str, parameters: InferenceParameters) -> Inference:
    """The inference on a worker."""
    return Inference.load(weights, digest, parameters, device())


def expose(arm: ArmName, stars: RealStars, injections: Injections, seed: int) -> ArmSpectra:
    """Exposures of injected binaries in one arm."""
    ratio = injections.ratio_red if arm == "R" else injections.ratio_blue
    still = np.zeros(len(injections))
    first = Stars(injections.star1[:, None].astype(np.float64), still + 1.0, still, injections.velocity)
    second = Stars(
        injections.star2[:, None].astype(np.float64),
        np.sqrt(ratio),
        still,
        injections.velocity + injections.separation,
    )
    snr = injections.snr_red if arm == "R" else injections.snr_blue
    return injection.expose(ARMS[arm], stars, (first, second), snr, keys_of(injections), seed)


def keys_of(injections: Injections) -> NDArray[np.int64]:
    """Keys of the noise, (injection, 2)."""
    return np.stack([injections.number, np.zeros_like(injections.number)], axis=1)


@one_thread()
def judge(task: InjectionTask, keeper: str, seed: int) -> Answer:
    """Whether each binary is a candidate by the joint rule, its probability, and its velocities."""
    return verdict(kept_object(keeper), task.source.load(), task.injections, seed)


def verdict(infer: Inference, stars: RealStars, injections: Injections, seed: int) -> Answer:
    """What the chain says of injected binaries: arrays of shape (injection,).

    ``candidate`` by the joint rule, ``probability`` of both arms together (p50, penalty 16; NaN where it is not
    judged), and the velocity that each arm is brought to rest by, km/s.
    """
    spectra = {arm: expose(arm, stars, injections, seed) for arm in ARM_NAMES}
    columns = dict(infer.judge(spectra, keys_of(injections)))
    rows = RESULTS.dataset({**columns, "obsid": injections.number}, len(injections))
    probability = rows["pb_pct_J_16"].sel(percentile=50).values
    judged = np.isfinite(probability)
    candidate = rows.sb2.is_candidate() if judged.any() else np.zeros(len(injections), np.bool_)
    return {
        "candidate": candidate,
        "probability": probability.astype(np.float32),
        **{f"rv_{arm}": rows[f"rv_obs_{arm}"].values for arm in ARM_NAMES},
    }
