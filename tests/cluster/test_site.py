"""What is typed, or written in a site's file, becomes a description, or an error that says what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twinlines.cluster.profiles import Address, Cuda, Local, ProfileError, SchedulerFile, Slurm, Ssh
from twinlines.cluster.site import parse

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (DOCS / "clusters.md", DOCS / "how-to" / "slurm.md")


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("local", Local()),
        (" local ", Local()),
        ("local:n_workers=3", Local(n_workers=3)),
        ("local:n-workers=3,memory=2GiB", Local(n_workers=3, memory=2 * 2**30)),
        ("cuda:n_workers=2", Cuda(n_workers=2)),
        ("tcp://127.0.0.1:8786", Address("tcp://127.0.0.1:8786")),
        ("tls://head.example.org:8786/", Address("tls://head.example.org:8786")),
        ("tcp://[::1]:8786", Address("tcp://[::1]:8786")),
        ("/shared/scheduler.json", SchedulerFile(file=Path("/shared/scheduler.json"))),
    ],
)
def test_a_profile_is_read_as_typed(text: str, profile: object) -> None:
    assert parse(text) == profile


def test_the_number_of_workers_given_apart_counts() -> None:
    assert parse("local:n_workers=3", n_workers=2) == Local(n_workers=2)
    assert parse("cuda", n_workers=2) == Cuda(n_workers=2)
    with pytest.raises(ProfileError, match="has the workers it has"):
        parse("tcp://127.0.0.1:8786", n_workers=2)
    with pytest.raises(ProfileError, match="its size is jobs times cores"):
        parse("slurm:cores=4", n_workers=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "no cluster profile is called 'nowhere'; available are: local, cuda, slurm, ssh, tcp://HOST:PORT"),
        ("", "no cluster profile is called ''"),
        ("local:threads=2", "there is no 'threads'; there are dask, n_workers, memory"),
        ("local:n_worker=2", r"there is no 'n_worker' \(did you mean 'n_workers'\?\)"),
        ("local:n_workers=two", "n_workers is 'two'; give a whole number"),
        ("local:n_workers=0", "n_workers is 0; give 1 or more"),
        ("local:memory=much", "memory is 'much'; give a size"),
        ("local:memory=0", "memory is 0 bytes"),
        ("tcp://127.0.0.1", "no scheduler's address"),
        ("tcp://:8786", "no scheduler's address"),
        ("tcp://host:port", "no scheduler's address"),
        ("tcp://host:8786/path", "no scheduler's address"),
        ("nowhere.yaml", "nowhere.yaml: the site cannot be read"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        parse(text)


def site(folder: Path, content: str) -> str:
    (folder / "site.yaml").write_text(content)
    return str(folder / "site.yaml")


def test_a_site_s_file_says_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    text = """
        profile: slurm
        jobs: 4
        cores: 32
        memory: 120 GiB
        walltime: '1-00:00:00'
        stagger: 10 minutes
        queue: regular
        account:
        directives: [--constraint=avx512, --exclusive]
        prologue: module load python
        mixed-hardware: true
        shared-directory: $SCRATCH/twinlines
        local_directory: $TMPDIR
        log-directory: logs
        dask:
          distributed:
            comm: {timeouts: {connect: 60s}}
            nanny: {pre-spawn-environ: {MY_VARIABLE: '1'}}
    """
    assert parse(site(tmp_path, text)) == Slurm(
        jobs=4,
        cores=32,
        memory=120 * 2**30,
        walltime="1-00:00:00",
        stagger=600.0,
        queue="regular",
        directives=("--constraint=avx512", "--exclusive"),
        prologue=("module load python",),
        mixed_hardware=True,
        shared_directory=Path("/scratch/me/twinlines"),
        local_directory="$TMPDIR",  # for the shell of the compute node
        log_directory=tmp_path / "logs",
        dask={"distributed.comm.timeouts.connect": "60s", "distributed.nanny.pre-spawn-environ.MY_VARIABLE": "1"},
    )


def test_defaults_of_folders_are_whole_paths(tmp_path: Path) -> None:
    profile = parse(site(tmp_path, "{profile: ssh, hosts: [a, b], key-file: id}"))
    assert isinstance(profile, Ssh)
    assert profile.shared_directory == Path("~/.twinlines").expanduser()
    assert profile.key_file == tmp_path / "id"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile: slrum", r"profile is 'slrum'; it is one of local, cuda, slurm.*did you mean 'slurm'"),
        ("jobs: 2", "profile is None; it is one of"),
        ("- slurm", "a site is a mapping"),
        ("{profile: slurm", "the site cannot be read"),
        ("{profile: slurm, wall-time: '1:00'}", r"there is no 'wall_time' \(did you mean 'walltime'\?\)"),
        ("{profile: slurm, walltime: 4:00:00}", "walltime is 14400; put the walltime in quotes"),
        ("{profile: slurm, cores: 2.5}", "cores is 2.5; give a whole number"),
        ("{profile: slurm, cores: true}", "cores is True; give a whole number"),
        ("{profile: slurm, stagger: long}", "stagger is 'long'; give a time"),
        ("{profile: slurm, mixed-hardware: maybe}", "mixed_hardware is 'maybe'; give true or false"),
        ("{profile: slurm, queue: 7}", "queue is 7; give text"),
        ("{profile: slurm, directives: {a: b}}", "directives is .*; give a list"),
        ("{profile: slurm, jobs: 0}", "site.yaml: slurm: jobs is 0"),
        ("{profile: ssh}", "site.yaml: ssh: there are no hosts"),
        ("{profile: local, dask: [a]}", "give keys of dask's configuration"),
        (
            "{profile: local, dask: {distributed.comm.timeout.connect: 60s}}",
            r"'distributed\.comm\.timeout\.connect' \(did you mean 'distributed\.comm\.timeouts\.connect'",
        ),
    ],
)
def test_a_wrong_site_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as error:
        parse(site(tmp_path, text))
    assert "site.yaml:" in str(error.value)


def test_every_site_of_the_pages_can_be_read(tmp_path: Path) -> None:
    sites = [text for page in PAGES for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)]
    kinds = {parse(site(tmp_path, text)).name for text in sites}
    assert kinds == {"local", "cuda", "slurm", "ssh", "address", "scheduler-file"}
