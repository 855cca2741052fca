import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from twinlines.models import checkpoint
from twinlines.models.checkpoint import CheckpointError, Header
from twinlines.models.network import ARCHITECTURE, Network, NetworkConfig

HEADER = Header(1, 7, "abc", {"test_tpr": 0.5}, {"batch_pairs": 8})


@pytest.fixture
def saved(tmp_path: Path, make_network: Callable[..., Network]) -> Path:
    """A file of weights."""
    path = tmp_path / f"{HEADER.stem}.safetensors"
    checkpoint.save(path, make_network(), HEADER)
    return path


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    tensors, header = checkpoint.unpack(path)
    change(header)
    path.write_bytes(checkpoint.pack(tensors, header))
    return path


def test_what_is_saved_is_loaded(saved: Path, small: NetworkConfig, make_network: Callable[..., Network]) -> None:
    loaded, header = checkpoint.load(saved)
    assert saved.name == "member_1.safetensors"
    assert header == HEADER
    assert loaded.config == small
    assert not loaded.training
    for (name, mine), (_, theirs) in zip(make_network().state_dict().items(), loaded.state_dict().items(), strict=True):
        assert mine.dtype == theirs.dtype
        # Matrices and kernels are stored as float16, and nothing else is.
        assert torch.equal(mine.half().float() if mine.ndim > 1 else mine, theirs), name
    assert list(saved.parent.iterdir()) == [saved]


def test_equal_weights_give_equal_bytes(saved: Path) -> None:
    first = saved.read_bytes()
    checkpoint.save(saved, *checkpoint.load(saved))
    assert saved.read_bytes() == first


def test_another_architecture_is_refused_with_both_names(saved: Path) -> None:
    path = rewritten(saved, lambda header: header["network"].update(architecture="resnet-9"))
    with pytest.raises(CheckpointError, match=f"'resnet-9'.*'{ARCHITECTURE}'"):
        checkpoint.load(path)


def test_another_header_version_is_refused_with_both_numbers(saved: Path) -> None:
    path = rewritten(saved, lambda header: header.update(schema_version=99))
    with pytest.raises(CheckpointError, match=f"version 99;.*version {checkpoint.SCHEMA_VERSION}"):
        checkpoint.load(path)


def test_weights_of_one_arm_and_one_penalty_are_refused_by_name(saved: Path) -> None:
    """What version 1 of the header described, whichever sizes it tells of."""
    old = {"arm": "B", "penalty": 16, "recipe": "abc", "schema_version": 1, "network": {"n_pixels": 120, "dense": [16]}}

    def aged(header: dict[str, Any]) -> None:
        header.clear()
        header.update(old)

    with pytest.raises(CheckpointError, match=r"member_1.*version 1 \(a network for one arm and one penalty\).*anew"):
        checkpoint.load(rewritten(saved, aged))


def test_shapes_that_contradict_the_header_are_refused_with_both(saved: Path) -> None:
    path = rewritten(saved, lambda header: header["network"].update(joint=[10, 9]))
    with pytest.raises(CheckpointError, match=r"heads.J.dense.layers.1.weight has shape \(6, 10\).*\(9, 10\)"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "change", [lambda header: header.pop("member"), lambda header: header["network"].update(poolings=3)]
)
def test_a_header_that_describes_no_network_is_refused(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(CheckpointError, match="does not describe a network"):
        checkpoint.load(rewritten(saved, change))


def test_missing_and_damaged_files_are_named(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.safetensors does not exist"):
        checkpoint.load(saved.with_name("none.safetensors"))
    whole = saved.read_bytes()
    for part in (b"", whole[:4], whole[: len(whole) // 2], b"weights"):
        saved.write_bytes(part)
        with pytest.raises(CheckpointError, match=r"member_1\.safetensors is damaged"):
            checkpoint.load(saved)


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="not written by this code"):
        checkpoint.load(tmp_path / "a.safetensors")


def test_weights_that_are_not_finite_are_refused(saved: Path) -> None:
    tensors, header = checkpoint.unpack(saved)
    tensors["heads.J.last.bias"][0] = torch.nan
    saved.write_bytes(checkpoint.pack(tensors, header))
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.load(saved)


def test_the_header_is_plain_json(saved: Path) -> None:
    raw = saved.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    content = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["twinlines"])
    assert content["network"]["architecture"] == ARCHITECTURE
    assert content["network"]["penalties"] == [8, 16]
    assert content["member"] == 1


def test_the_digest_follows_content_and_names(tmp_path: Path, make_ensemble: Callable[..., Path]) -> None:
    folder = make_ensemble()
    first = checkpoint.digest(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "member_1.jsonl").write_text("a log is no weight")
    assert checkpoint.digest(copy) == first
    path = copy / "member_1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    changed = checkpoint.digest(copy)
    assert changed != first
    path.unlink()
    assert checkpoint.digest(copy) not in {first, changed}


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no weights"):
        checkpoint.digest(tmp_path)
    with pytest.raises(CheckpointError, match="is no folder"):
        checkpoint.digest(tmp_path / "none")


def test_a_flipped_bit_is_never_a_weight(saved: Path) -> None:
    whole = saved.read_bytes()
    first = int.from_bytes(whole[:8], "little")  # bytes of the header, which the tensors follow
    for byte in [*range(0, 8 + first, 97), *range(8 + first, len(whole), len(whole) // 150)]:
        changed = bytearray(whole)
        changed[byte] ^= 1 << byte % 8
        saved.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"member_1"):
            checkpoint.load(saved)


def test_weights_of_before_have_no_checksum_and_are_read(saved: Path) -> None:
    tensors, header = checkpoint.unpack(saved)
    save_file(tensors, saved, {"twinlines": json.dumps(header)})
    assert checkpoint.load(saved)[1] == HEADER
