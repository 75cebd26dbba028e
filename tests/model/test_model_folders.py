"""What a name means: a folder here, or a model of the Hub; a mistyped path is answered with what is there."""

import pytest
from transformers import AutoConfig

from recipes.common.model import model_folders
from recipes.common.runtime.errors import Refusal


@pytest.fixture
def checkpoints(in_tmp_path):
    """The folders out/checkpoint-10 and out/checkpoint-20."""
    for name in ("checkpoint-10", "checkpoint-20"):
        (in_tmp_path / "out" / name).mkdir(parents=True)
    return in_tmp_path


def test_a_folder_is_itself_and_a_name_of_the_hub_too(checkpoints):
    assert model_folders.named("out/checkpoint-10", "--flag") == "out/checkpoint-10"
    assert [model_folders.named(name, "--flag") for name in ("gpt2", "google/mt5-small")] == [
        "gpt2",
        "google/mt5-small",
    ]


def test_the_home_folder_is_resolved(checkpoints, monkeypatch):
    monkeypatch.setenv("HOME", str(checkpoints))
    assert model_folders.named("~/out/checkpoint-10", "--flag") == str(
        checkpoints / "out/checkpoint-10"
    )


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("./out/checkpoint-11", "did you mean out/checkpoint-10?"),
        ("./out/final", "out holds out/checkpoint-10, out/checkpoint-20"),
        ("a/b/c", "check the path; it is relative to the current folder"),
        ("./nowhere/model", "check the path; it is relative to the current folder"),
    ],
)
def test_a_path_without_a_folder_is_refused_with_what_is_there(name, fix, checkpoints):
    with pytest.raises(Refusal, match=f"no folder {name}") as refused:
        model_folders.named(name, "--model_name_or_path")
    assert (refused.value.where, refused.value.fix) == ("--model_name_or_path", fix)


def test_a_mistyped_checkpoint_is_not_taken_for_a_matter_of_the_network(checkpoints):
    with pytest.raises(Refusal) as refused:
        model_folders.load(AutoConfig, "out/checkpoint-21", "--model_name_or_path", False)
    assert refused.value.fix == "did you mean out/checkpoint-20?"


def test_a_file_is_no_checkpoint(checkpoints):
    (checkpoints / "out/model.safetensors").touch()
    with pytest.raises(Refusal, match="is a file") as refused:
        model_folders.named("out/model.safetensors", "--model_name_or_path")
    assert refused.value.fix == "name its folder: out"
