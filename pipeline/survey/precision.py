"""In which arithmetic a survey is computed where nobody says: as before, and at first as is quickest.

The precision is part of a run's key. If it followed the hardware of the day, a run that goes on elsewhere, or the next
release, would compute everything anew; so it follows the survey.
"""

from __future__ import annotations

from distributed import Client

from twinlines.cluster.inventory import collect
from twinlines.models.precision import PrecisionName, has_bfloat16, resolve
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import SurveyError


def usual(client: Client, survey: Survey) -> PrecisionName:
    """Precision of the survey's last run, finished or not; of its first one, mixed if all workers have bfloat16.

    What mixed precision changes of probabilities, ``docs/ensemble.md`` has.

    Raises
    ------
    twinlines.cluster.errors.LaunchError
        If workers cannot say what they are.
    SurveyError
        If the last run was in a precision that does not exist here, does not say in which one, or was in mixed
        precision, which not all of these workers have.
    """
    runs = survey.runs
    if not runs:
        return "float32" if _without_bfloat16(client) else "mixed"
    about = runs[-1].folder / "run.json"
    said = runs[-1].description().get("parameters", {}).get("precision")
    give = "give --precision float32 or --precision mixed: that of the runs there are computes nothing anew"
    if said is None:
        raise SurveyError(f"{about} does not say in which precision the last run was; {give}")
    try:
        before = resolve(str(said), "cpu", emulate=True)
    except ValueError as error:
        raise SurveyError(f"{about} is of a run in another precision: {error}; {give}") from error
    return asked(client, before, "the survey's last run was in it, and ")


def asked(client: Client, precision: str, why: str = "") -> PrecisionName:
    """``precision``, if all workers have it: a run that cannot be computed must not be begun, and then be the last one.

    Raises
    ------
    SurveyError
        If some worker does not have it, after ``why`` it was asked for.
    """
    if precision == "mixed" and (lacking := _without_bfloat16(client)):
        raise SurveyError(
            f"mixed precision is of no use here: {why}{len(lacking)} of the workers, first that on {lacking[0]}, do "
            "not multiply bfloat16 in hardware; take workers that do, or give --precision float32, which computes what "
            "was not computed in it"
        )
    return resolve(precision, "cpu", emulate=True)


def _without_bfloat16(client: Client) -> list[str]:
    """Hosts of the workers that do not multiply bfloat16 in hardware."""
    return sorted(worker.host for worker in collect(client, has_bfloat16).values() if not worker.bfloat16)
