"""A job's folder in which each task's result is one file of rows beside its marker: a run's, and a survey's fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr

from twinlines.pipeline.datasets import Schema
from twinlines.pipeline.jobs.markers import Markers, fingerprint_of
from twinlines.pipeline.storage import atomic, stores

_RESULTS = "results"


class Results(Markers):
    """Markers, failures, and ``results/<task key>.zarr.zip``; what they hold says the class that is derived."""

    schema: ClassVar[Schema]
    """What a result's rows are."""

    def open(self, folders: Sequence[str] = ()) -> None:
        """Make the folder, or take it up again; see :meth:`.Markers.open`."""
        super().open((_RESULTS, *folders))

    def result_path(self, key: str) -> Path:
        """File of a task's result."""
        return self.folder / _RESULTS / f"{key}.zarr.zip"

    def is_done(self, key: str, *, verify: bool = False) -> bool:
        """Whether a task has a marker and its result; see :meth:`.Markers.finished`."""
        return self.finished(key, [self.result_path(key)], verify=verify)

    def record(self, key: str, result: xr.Dataset, **about: Any) -> dict[str, Any]:
        """Write a task's result, then its marker; returns the marker's content.

        Parameters
        ----------
        key
            Key of the task.
        result
            Rows of :attr:`schema`.
        about
            What else the marker should say, as JSON.
        """
        data = stores.pack(self.schema, result)
        atomic.write_bytes(self.result_path(key), data)
        return self.mark(key, result.sizes[self.schema.row], fingerprint_of(data), **about)

    def recorded(self) -> Iterator[Path]:
        """Files of the tasks that are done, by name; one that is damaged is not done."""
        for marker in sorted((self.folder / "done").glob("[!.]*.json")):
            if self.is_done(marker.stem, verify=True):
                yield self.result_path(marker.stem)
