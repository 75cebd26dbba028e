"""The newest intact checkpoint is gone on from, the last ones are kept, and those of other runs are refused."""

import errno

import pytest
from test_atomic_folder import FILES, save

from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.runtime.errors import DiskFull


def test_the_newest_has_the_highest_number_and_not_the_last_name(tmp_path):
    for step in (9, 100, 10):
        save(tmp_path, step)
    assert retention.newest(tmp_path) == tmp_path / "checkpoint-100"


def test_a_damaged_checkpoint_is_passed_over_with_a_note(tmp_path, capsys):
    for step in (9, 10, 11):
        save(tmp_path, step)
    (tmp_path / "checkpoint-11/optimizer.pt").write_bytes(b"stale")
    (tmp_path / "checkpoint-10/manifest.json").unlink()
    assert retention.newest(tmp_path) == tmp_path / "checkpoint-9"
    noted = capsys.readouterr().err.splitlines()
    assert [line.split("checkpoint-")[1] for line in noted] == [
        "11 is skipped: optimizer.pt has another content than when it was written",
        "10 is skipped: manifest.json is missing",
    ]


def test_without_a_whole_checkpoint_there_is_no_newest(tmp_path):
    assert retention.newest(tmp_path) is None
    assert retention.newest(tmp_path / "absent") is None
    (tmp_path / "checkpoint-5").mkdir()
    assert retention.newest(tmp_path) is None


def test_only_folders_of_steps_are_checkpoints(tmp_path):
    save(tmp_path, 5)
    for name in (
        "checkpoint-best",
        "checkpoint-",
        "checkpoint-7.bak",
        ".saving-9",
        "checkpoint--1",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-8").write_text("a file")
    assert [path.name for path in retention.all_of(tmp_path)] == ["checkpoint-5"]
    assert retention.step(tmp_path / "checkpoint-5") == 5


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one bit flipped": lambda path: path.write_bytes(
        bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]
    ),
    "extra": lambda path: path.with_suffix(".extra").write_bytes(b"x"),
    "a link": lambda path: (path.rename(path.parent.parent / "aside"), path.symlink_to("../aside")),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "deep/er/rng.bin", "manifest.json"]
)
def test_every_damage_of_every_file_is_found_and_the_older_checkpoint_is_used(
    name, damage, tmp_path
):
    older, newer = save(tmp_path, 3), save(tmp_path, 5)
    DAMAGES[damage](newer / name)
    assert atomic_folder.damage(newer)
    assert retention.newest(tmp_path) == older


def test_a_checkpoint_that_was_not_renamed_any_more_is_put_in_its_place(tmp_path):
    final = save(tmp_path, 5)
    (tmp_path / ".saving-5").mkdir(exist_ok=True)
    final.rename(tmp_path / ".saving-5/checkpoint-5")
    assert retention.newest(tmp_path) == final
    assert not (tmp_path / ".saving-5").exists()


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [1, 2, 3, 4, 5]),
        (2, None, [4, 5]),
        (2, 1, [1, 5]),
        (1, 3, [3, 5]),
        (1, None, [5]),
        (9, 2, [1, 2, 3, 4, 5]),
    ],
)
def test_the_newest_and_the_best_checkpoints_are_kept(limit, best, kept, tmp_path):
    for step in range(1, 6):
        save(tmp_path, step)
    (tmp_path / "checkpoint-0").mkdir()  # not ours: without a manifest
    retention.rotate(tmp_path, limit, best and str(tmp_path / f"checkpoint-{best}"))
    assert sorted(retention.step(path) for path in retention.all_of(tmp_path)) == [0, *kept]


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "7", '"x"', "{}", '{"flags": 1, "inputs": {}, "rows_per_step": 1}']
)
def test_a_fingerprint_that_cannot_be_read_says_nothing(content, tmp_path):
    final = save(tmp_path, 5, FILES | {retention.FINGERPRINT: content.encode()})
    assert retention.fingerprint(final) == {}


def test_what_goes_wrong_beside_a_checkpoint_s_content_is_no_refusal(tmp_path):
    for error in (
        OSError(28, "No space left on device"),
        MemoryError(),
        RuntimeError("out of memory"),
    ):
        with pytest.raises(type(error)), retention.readable(tmp_path):
            raise error


@pytest.mark.parametrize(
    ("only_model", "said"), [(False, "continues from the last"), (True, "starts over")]
)
def test_a_full_disk_promises_to_go_on_only_where_that_is_possible(only_model, said, tmp_path):
    with (
        pytest.raises(DiskFull) as full,
        retention.removed_if_full(tmp_path / "out", 10, only_model),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert said in full.value.fix
