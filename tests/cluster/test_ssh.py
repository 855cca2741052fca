"""Machines reached by SSH: a real SSH server of this process stands in for them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from twinlines.cluster import ssh
from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.errors import LaunchError
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Ssh
from twinlines.cluster.show import show
from twinlines.cluster.workers import workers_of


async def _shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run a command as sshd would; it ends with its connection."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(
        f"exec {process.command}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )

    async def copy(source: asyncio.StreamReader | None, target: asyncssh.SSHWriter[bytes]) -> None:
        assert source is not None
        while line := await source.readline():
            target.write(line)

    try:
        await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
        process.exit(await child.wait())
    finally:
        # A nanny's worker holds the pipes, too; asyncio lets go of a child only when both are at their end.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.communicate()
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    """A machine that lets a key in, as a profile."""
    folder = tmp_path_factory.mktemp("ssh")
    host, user = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    user.write_private_key(str(folder / "id"))
    user.write_public_key(str(folder / "authorized"))
    loop = asyncio.new_event_loop()

    async def serve() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host],
            authorized_client_keys=str(folder / "authorized"),
            process_factory=_shell,
            encoding=None,
        )

    server = loop.run_until_complete(serve())
    port = server.get_port()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Ssh(
        hosts=("127.0.0.1",),
        workers_per_host=2,
        memory=2**30,
        user="observer",
        port=port,
        key_file=folder / "id",
        known_hosts=folder / "known",
        shared_directory=folder / "shared",
        local_directory=str(folder),
        wait=60.0,
    )

    async def stop() -> None:
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=60)
    loop.close()


def test_workers_start_there_secured_and_in_their_environment(machine: Ssh) -> None:
    with launch(machine) as client:
        client.wait_for_workers(2, timeout=60)
        addresses = [client.scheduler.address, *workers_of(client)]
        assert all(address.startswith("tls://") for address in addresses)
        assert client.submit(sum, [1, 2]).result() == 3
        for environment in client.run(lambda: dict(os.environ)).values():
            assert {name: environment.get(name) for name in WORKER_ENVIRONMENT} == WORKER_ENVIRONMENT
        assert not any(client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks).values())
        assert set(client.nthreads().values()) == {1}
        assert "tls_client_key" in repr(client.security)
    assert not list((machine.shared_directory).iterdir())


def test_a_machine_that_is_not_known_is_refused(machine: Ssh, tmp_path: Path) -> None:
    (tmp_path / "known").touch()
    with (
        pytest.raises(LaunchError, match=r"no cluster on 127\.0\.0\.1: .*[Hh]ost key.*'ssh HOST'"),
        launch(replace(machine, known_hosts=tmp_path / "known")),
    ):
        pass


def test_without_the_package_it_names_the_extra(machine: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "find_spec", lambda _: None)
    with pytest.raises(LaunchError, match=r"pip install 'twinlines\[ssh\]'"), launch(machine):
        pass


def test_the_usual_files_are_used_where_none_are_given() -> None:
    shown = show(Ssh(hosts=("node1", "node2"), scheduler="head", workers_per_host=16))
    assert shown.options["hosts"] == ["head", "node1", "node2"]
    # To asyncssh, known_hosts=None would mean: trust any server.
    assert shown.options["connect_options"] == {}
    assert shown.workers == "32 single-threaded processes on 2 machines"
    assert "TLS" in shown.security
