"""Profiles: what is typed becomes a description, or an error that says what there is."""

from __future__ import annotations

import pytest

from twinlines.cluster.profiles import Address, Local, ProfileError, cores, parse


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("local", Local()),
        (" local ", Local()),
        ("local:n_workers=3", Local(n_workers=3)),
        ("local:n_workers=3,memory=2GiB", Local(n_workers=3, memory=2 * 2**30)),
        ("tcp://127.0.0.1:8786", Address("tcp://127.0.0.1:8786")),
        ("tls://head.example.org:8786/", Address("tls://head.example.org:8786")),
        ("tcp://[::1]:8786", Address("tcp://[::1]:8786")),
    ],
)
def test_a_profile_is_read_as_typed(text: str, profile: object) -> None:
    assert parse(text) == profile


@pytest.mark.parametrize("profile", [Local(), Local(2), Local(2, 10**9), Address("tcp://127.0.0.1:8786")])
def test_a_profile_reads_what_it_prints(profile: Local | Address) -> None:
    assert parse(str(profile)) == profile


def test_the_number_of_workers_given_apart_counts() -> None:
    assert parse("local:n_workers=3", n_workers=2) == Local(n_workers=2)
    with pytest.raises(ProfileError, match="has the workers it has"):
        parse("tcp://127.0.0.1:8786", n_workers=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda", "not available in this version; available are: local, tcp://HOST:PORT, tls://HOST:PORT"),
        ("slurm", "not available in this version"),
        ("ssh", "not available in this version"),
        ("site.yaml", "not available in this version"),
        ("nowhere", "no cluster profile is called 'nowhere'; available are: local"),
        ("", "no cluster profile is called ''"),
        ("local:threads=2", "no option is called 'threads'; the options are n_workers and memory"),
        ("local:n_workers=two", "n_workers is 'two'"),
        ("local:n_workers=0", "n_workers is 0; give 1 or more"),
        ("local:memory=much", "memory is 'much'"),
        ("local:memory=0", "memory is 0 bytes"),
        ("tcp://127.0.0.1", "no scheduler's address"),
        ("tcp://:8786", "no scheduler's address"),
        ("tcp://host:port", "no scheduler's address"),
        ("tcp://host:8786/path", "no scheduler's address"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        parse(text)


def test_there_is_a_core() -> None:
    assert cores() >= 1
