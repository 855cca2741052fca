from __future__ import annotations

from pathlib import Path

import pytest

from twinlines.pipeline.synthesis.beyond_table1 import Extras, ExtrasError
from twinlines.pipeline.synthesis.emission import Sky
from twinlines.pipeline.synthesis.foreign_light import Dilution
from twinlines.pipeline.synthesis.population import TABLE1
from twinlines.pipeline.synthesis.priors import NAMED, Constant, PriorError, Uniform
from twinlines.pipeline.training import config
from twinlines.pipeline.training.config import ConfigError
from twinlines.pipeline.training.recipe import SynthesisError, TrainingSet


def _read(tmp_path: Path, text: str) -> TrainingSet:
    path = tmp_path / "set.toml"
    path.write_text(text)
    return TrainingSet(n_pairs=10, **config.read(path))


def test_an_empty_file_is_table_1(tmp_path: Path) -> None:
    assert _read(tmp_path, "") == TrainingSet(n_pairs=10)


def test_everything_can_be_said(tmp_path: Path) -> None:
    made = _read(
        tmp_path,
        """
        condition = ["feh", "mass_ratio"]
        frame = "drawn"

        [priors]
        vsini1 = "survey_vsini"
        mass_ratio = { kind = "uniform", low = 0.5, high = 1.0 }
        alpha = 0.0

        [extras.cool_giants]
        fraction = 0.1
        eep1 = { kind = "uniform", low = 560, high = 605 }

        [extras.blends]
        fraction = 0.05
        double_lined = false

        [extras.defects]
        fraction = 0.3
        spikes = 1

        [extras.field]
        fraction = 0.5
        red_snr = 1.6

        [extras.dilution]
        fraction = 0.2
        light = { kind = "uniform", low = 0.0, high = 0.3 }

        [extras.sky]
        fraction = 0.1
        """,
    )
    assert made.condition == ("feh", "mass_ratio")
    assert made.frame == "drawn"
    assert made.priors.vsini1 is NAMED["survey_vsini"]
    assert made.priors.mass_ratio == Uniform(0.5, 1.0)
    assert made.priors.alpha == Constant(0.0)
    assert made.priors.feh == TABLE1.feh
    assert made.extras.cool_giants.eep1 == Uniform(560, 605)
    assert made.extras.cool_giants.vsini1 == Extras().cool_giants.vsini1
    assert made.extras.blends.double_lined is False
    assert made.extras.defects.spikes == 1.0
    assert made.extras.activity == Extras().activity
    assert made.extras.field.red_snr == Constant(1.6)
    assert made.extras.dilution == Dilution(0.2, Uniform(0.0, 0.3))
    assert made.extras.sky == Sky(0.1)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[priors", ConfigError, r"set.toml cannot be read as TOML"),
        ("pairs = 3", ConfigError, r"there is no 'pairs'.*; there are condition, frame, priors, extras"),
        ("[prior]", ConfigError, r"there is no 'prior' \(did you mean 'priors'\?\)"),
        ('frame = "rest"', ConfigError, "set.toml: frame is 'rest'; give one of measured, drawn"),
        ("[extras.skye]", ConfigError, r"extras: there is no 'skye' \(did you mean 'sky'\?\)"),
        (
            "[extras.nebula]\ndepth = 1",
            ConfigError,
            "extras.nebula: there is no 'depth'.*; there are fraction, height, velo",
        ),
        ("[extras.stretch]\nfraction = -1", ExtrasError, "stretch: fraction is -1.0; give a number from 0 to 1"),
        ("priors = 1", ConfigError, "set.toml: priors is 1; give a table"),
        ("[priors]\nvsini = 1", ConfigError, r"priors: there is no 'vsini' \(did you mean 'vsini"),
        ('[priors]\nvsini1 = "fast"', PriorError, r"set.toml: priors.vsini1: no prior is called 'fast'"),
        ("[extras.giants]\nfraction = 1", ConfigError, r"extras: there is no 'giants'"),
        ("[extras.blends]\nfraction = true", ConfigError, "extras.blends.fraction is True; give a number"),
        ("[extras.blends]\ndouble_lined = 1", ConfigError, "double_lined is 1; give true or false"),
        ("[extras.blends]\nfraction = 2", ExtrasError, "fraction is 2.0; give a number from 0 to 1"),
        ('condition = "feh"', ConfigError, "condition is 'feh'; give a list of parameters"),
        ('condition = ["iron"]', SynthesisError, "there is no parameter 'iron'; the parameters are mass1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        _read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml cannot be read"):
        config.read(tmp_path / "none.toml")
