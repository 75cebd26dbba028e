"""A folder of files is whole or it is not there."""

import hashlib
import json

import pytest

from recipes.common.checkpoints import atomic_folder

FILES = {
    "model.safetensors": bytes(range(256)) * 8,
    "optimizer.pt": b"state",
    "deep/er/rng.bin": b"\x00",
    "empty": b"",
}
FILES |= {"process_0.safetensors": b"random"}


def save(folder, step, files=FILES):
    """A published checkpoint of these files."""
    staged, final = folder / f".saving-{step}" / f"checkpoint-{step}", folder / f"checkpoint-{step}"
    for name, content in files.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(content)
    atomic_folder.publish(staged, final)
    return final


def test_a_published_checkpoint_is_whole_and_nothing_is_left_beside_it(tmp_path):
    final = save(tmp_path, 5)
    assert atomic_folder.intact(final)
    assert {name: (final / name).read_bytes() for name in FILES} == FILES
    assert not list((tmp_path / ".saving-5").iterdir())


def test_the_manifest_names_every_file_with_size_and_hash(tmp_path):
    manifest = json.loads((save(tmp_path, 5) / "manifest.json").read_text())
    assert manifest["files"] == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in FILES.items()
    }


def test_the_same_step_saved_again_replaces_the_first(tmp_path):
    save(tmp_path, 5, {**FILES, "old": b"old"})
    final = save(tmp_path, 5, {"model.safetensors": b"new"})
    assert atomic_folder.intact(final)
    assert sorted(path.name for path in final.iterdir()) == ["manifest.json", "model.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(name, tmp_path):
    final = save(tmp_path, 5)
    (final / name).unlink()
    assert not atomic_folder.intact(final)


@pytest.mark.parametrize("position", [0, 1000, 2047])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_single_flipped_bit_is_found(position, bit, tmp_path):
    final = save(tmp_path, 5)
    content = bytearray(FILES["model.safetensors"])
    content[position] ^= bit
    (final / "model.safetensors").write_bytes(content)
    assert not atomic_folder.intact(final)


@pytest.mark.parametrize(
    "content", [b"", FILES["model.safetensors"][:-1], FILES["model.safetensors"] + b"\0"]
)
def test_a_shorter_or_longer_file_is_found(content, tmp_path):
    final = save(tmp_path, 5)
    (final / "model.safetensors").write_bytes(content)
    assert not atomic_folder.intact(final)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"files": null}', '{"files": [1]}', '{"files": {}}']
)
def test_a_damaged_manifest_is_found(content, tmp_path):
    final = save(tmp_path, 5)
    (final / "manifest.json").write_text(content)
    assert not atomic_folder.intact(final)


def test_a_manifest_with_a_line_twice_is_damaged(tmp_path):
    final = save(tmp_path, 5)
    lines = (final / "manifest.json").read_text().splitlines(keepends=True)
    doubled = next(number for number, line in enumerate(lines) if '"bytes"' in line)
    (final / "manifest.json").write_text(
        "".join([*lines[:doubled], lines[doubled], *lines[doubled:]])
    )
    assert atomic_folder.damage(final) == "manifest.json is damaged"


def test_a_folder_without_a_manifest_is_not_whole(tmp_path):
    final = save(tmp_path, 5)
    (final / "manifest.json").unlink()
    assert not atomic_folder.intact(final)
    assert not atomic_folder.intact(tmp_path / "checkpoint-6")


def test_a_file_that_was_added_later_is_found(tmp_path):
    final = save(tmp_path, 5)
    (final / "notes.txt").write_text("mine")
    assert atomic_folder.damage(final) == "notes.txt is extra"


def test_a_checkpoint_can_be_moved(tmp_path):
    final = save(tmp_path, 5)
    assert atomic_folder.intact(final.rename(tmp_path / "elsewhere"))
