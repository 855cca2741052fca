"""In which arithmetic a survey is computed where nobody says: as before, and at first as is quickest.

The precision is part of a run's key. If it followed the hardware of the day, a run that goes on elsewhere, or the next
release, would compute everything anew; so it follows the survey.
"""

from __future__ import annotations

from distributed import Client

from twinlines.cluster.inventory import collect
from twinlines.models.precision import PrecisionName, has_bfloat16, resolve
from twinlines.pipeline.survey.folder import Survey


def usual(client: Client, survey: Survey) -> PrecisionName:
    """Precision of the survey's last run, finished or not; of its first one, mixed if all workers have bfloat16.

    What mixed precision changes of probabilities, ``docs/ensemble.md`` has.

    Raises
    ------
    twinlines.cluster.errors.LaunchError
        If workers cannot say what they are.
    ValueError
        If the last run was in a precision that does not exist here.
    """
    runs = survey.runs
    if runs:
        return resolve(str(runs[-1].description()["parameters"]["precision"]), "cpu", emulate=True)
    workers = collect(client, has_bfloat16).values()
    return "mixed" if all(worker.bfloat16 for worker in workers) else "float32"
