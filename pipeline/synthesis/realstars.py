"""Real stars as a source of light, in place of a library: every one at rest, at R = 7500, on the arms' library grids.

They come from a folder of FITS tables (:mod:`.starfolder`) or from a survey's release (:mod:`.starrelease`), and lie in
memory, 41 kB each. What ships may be trained on them, and holds none of them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.cluster.settings import did_you_mean
from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.synthesis import starfolder, starrelease
from twinlines.pipeline.synthesis.real_light import Light, RealStarError, Record, light_of

Array = NDArray[np.float64]

NOISE_MARGIN = 2.0
"""By how much a star's own S/N is above that of the spectra made of it, at least: its noise then adds an eighth."""

MINIMUM_RELEASE_SNR = 100.0
"""S/N in both arms above which exposures of a release are taken, if nothing else is said."""


@dataclass(frozen=True, eq=False)
class RealStars:
    """Real stars on the arms' library grids; a star is named by its place, as labels of shape (star, 1)."""

    name: tuple[str, ...]
    """Names."""
    kind: tuple[str, ...]
    """Classes, in the words of whoever collected them; "" where there is none."""
    teff: Array
    """Effective temperatures, K; NaN where not known, (star,)."""
    logg: Array
    """log10 of surface gravity, cm s-2; NaN where not known, (star,)."""
    feh: Array
    """[Fe/H]; NaN where not known, (star,)."""
    snr: Mapping[str, Array]
    """By arm, S/N of white noise per library pixel; infinite where a star is taken to have no noise, (star,)."""
    flux: Mapping[str, NDArray[np.float32]]
    """By arm, light in units of its median on the arm's grid, (star, library pixel)."""
    digest: str
    """Content hash of the stars as they were found; goes into the provenance of what is made of them."""
    left_out: tuple[str, ...] = ()
    """Exposures of a release that could not be used, and why."""

    def __len__(self) -> int:
        return len(self.name)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{count} {kind or 'of no class'}" for kind, count in sorted(Counter(self.kind).items()))
        return f"<RealStars: {len(self)} stars ({kinds}); digest {self.digest[:12]}>"

    @classmethod
    def load(
        cls,
        folder: str | Path,
        table: str | Path | None = None,
        *,
        minimum_snr: float = MINIMUM_RELEASE_SNR,
        without: tuple[str, ...] = (),
    ) -> RealStars:
        """Read real stars; once as long as no file changes, then shared.

        Parameters
        ----------
        folder
            Folder of FITS tables, or of a survey's release.
        table
            CSV file that says what the stars are; by default ``stars.csv`` in the folder. Of a release it says which.
        minimum_snr
            Of a release, the S/N that an exposure must have in both arms.
        without
            Classes, or names, that are left out; of them nothing is read but that.

        Raises
        ------
        RealStarError
            If a star cannot be used, or none is left; names it.
        """
        folder = Path(folder).resolve()
        if not folder.is_dir():
            raise RealStarError(f"{folder} is no folder; give the one that holds the FITS tables, or a release")
        found = Path(table).resolve() if table else None
        if (folder / starrelease.STORE).is_dir():
            if found is None:
                raise RealStarError(f"{folder} is a release: give a CSV file of the stars to take, with a column obsid")
            files = [folder / starrelease.STORE / "zarr.json", found]
        else:
            files = [*starfolder.files_of(folder), found or folder / starfolder.TABLE]
        return _cached(folder, found, minimum_snr, without, tuple(_state(path) for path in files))

    @classmethod
    def of(cls, records: Iterable[Record | str], *, lenient: bool = False, without: tuple[str, ...] = ()) -> RealStars:
        """Prepare stars.

        Parameters
        ----------
        records
            The stars, or why one is left out.
        lenient
            Leave out those that cannot be used, instead of raising an error.
        without
            Classes, or names, to leave out.

        Raises
        ------
        RealStarError
            If a star cannot be used, or none is left, or none is called as ``without`` says.
        """
        stars: list[Record] = []
        lights: list[dict[str, Light]] = []
        left_out: list[str] = []
        words: set[str] = set()
        for record in records:
            if isinstance(record, str):
                left_out.append(record)
                continue
            words |= {record.name, record.kind}
            if {record.name, record.kind} & set(without):
                continue
            try:
                light = _usable(record)
            except RealStarError as error:
                if not lenient:
                    raise
                left_out.append(str(error))
                continue
            stars.append(Record(**{**vars(record), "spectra": {}}))  # what was observed need not stay in memory
            lights.append(light)
        _require_words(without, words)
        if not stars:
            why = f"; the first: {left_out[0]}" if left_out else ""
            raise RealStarError(f"no star is left to make spectra of: {len(left_out)} could not be used{why}")
        flux: dict[str, NDArray[np.float32]] = {
            name: np.stack([light[name].flux for light in lights]) for name in ARM_NAMES
        }
        for values in flux.values():
            values.setflags(write=False)
        labels = np.array([star.labels for star in stars], dtype=np.float64)
        return cls(
            name=tuple(star.name for star in stars),
            kind=tuple(star.kind for star in stars),
            teff=labels[:, 0],
            logg=labels[:, 1],
            feh=labels[:, 2],
            snr={name: np.array([light[name].snr for light in lights]) for name in ARM_NAMES},
            flux=flux,
            digest=hashlib.blake2b(" ".join(star.content for star in stars).encode(), digest_size=16).hexdigest(),
            left_out=tuple(left_out),
        )

    def nodes(self) -> Array:
        """Labels of all stars, (star, 1)."""
        return np.arange(len(self), dtype=np.float64)[:, None]

    def outside(self, labels: Array) -> NDArray[np.int8]:
        """Which labels, of shape (n, 1), are none of these stars'; 0 is one of them."""
        place = labels[:, 0]
        return np.asarray(~((place >= 0) & (place < len(self)) & (place == np.floor(place))), dtype=np.int8)

    def light(self, arm: str, labels: Array) -> NDArray[np.float32]:
        """Light at rest of the stars with ``labels``, (n, 1), in units of its median: (n, library pixel).

        Raises
        ------
        RealStarError
            If a label is no star's.
        """
        if self.outside(labels).any():
            raise RealStarError(f"there are {len(self)} stars, from place 0 on; asked: {np.unique(labels).tolist()}")
        return self.flux[arm][labels[:, 0].astype(np.int64)]

    def called(self, word: str) -> Array:
        """Labels, (n, 1), of the stars of a class, or of a name.

        Raises
        ------
        RealStarError
            If there is none.
        """
        found = [place for place, named in enumerate(zip(self.name, self.kind, strict=True)) if word in named]
        if not found:
            _require_words((word,), {*self.name, *self.kind})
        return np.array(found, dtype=np.float64)[:, None]

    def shade(self, arm: str, reference: float) -> Array:
        """Black body of each star's temperature in the middle of an arm over that at ``reference`` A; NaN if not known.

        Planck's law per unit wavelength, with c2 = 1.438777e8 A K.
        """
        middle = float(ARMS[arm].wavelength.mean())  # type: ignore[index]

        def planck(wavelength: float) -> Array:
            return np.asarray(wavelength**-5.0 / np.expm1(1.438777e8 / (wavelength * self.teff)))

        return planck(middle) / planck(reference)


LightSource = Library | RealStars
"""What the light of stars at rest comes from."""


def _usable(record: Record) -> dict[str, Light]:
    """A star's light in both arms, if its own noise leaves room for noise to be added."""
    light: dict[str, Light] = {name: light_of(ARMS[name], record) for name in ARM_NAMES}
    for name, seen in light.items():
        if not seen.snr >= NOISE_MARGIN * MINIMUM_SNR:
            raise RealStarError(
                f"{record.place}: S/N {seen.snr:.1f} in arm {name} (of a pixel of 5.2 km/s) is below "
                f"{NOISE_MARGIN * MINIMUM_SNR:g}, so that what is made of it would show its own noise; remove it, or "
                f"name {record.name!r} in `without`"
            )
    return light


def _require_words(asked: Iterable[str], words: set[str]) -> None:
    known = sorted(words - {""})
    for word in asked:
        if word not in known:
            raise RealStarError(
                f"no star has the class or the name {word!r}{did_you_mean(word, known)}; there are {', '.join(known)}"
            )


def _state(path: Path) -> tuple[str, int, int]:
    """What tells whether a file has changed."""
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4)
def _cached(
    folder: Path, table: Path | None, minimum_snr: float, without: tuple[str, ...], _states: tuple[object, ...]
) -> RealStars:
    """Stars by what tells whether their files have changed: a worker asks for them with every task."""
    with one_thread():
        if (folder / starrelease.STORE).is_dir() and table is not None:
            records = starrelease.read_release(folder, table, minimum_snr)
            return RealStars.of(records, lenient=True, without=without)
        return RealStars.of(starfolder.read_folder(folder, table), without=without)
