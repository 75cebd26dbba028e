"""Passwords in addresses are shown nowhere: not in errors, notes, commands, run.yaml, run.json or the model card."""

import pytest
from conftest import SCRATCH, SHORT, merged

from recipes.common import launch
from recipes.common.runtime import secrets
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, visible

PASSWORD = "s3cr3t+Pa/ss"
HIDDEN = {
    "https://me:s3cr3t@x.org/a.csv": "https://<secret>@x.org/a.csv",
    "https://me:s3cr3t@pass@x.org/a.csv": "https://<secret>@x.org/a.csv",
    "https://s3cr3t@github.com/me/x": "https://<secret>@github.com/me/x",
    "s3://KEY:s3cr3t/with/slashes@bucket/a.csv": "s3://<secret>@bucket/a.csv",
    "postgresql+psycopg://me:s3cr3t@db:5432/x": "postgresql+psycopg://<secret>@db:5432/x",
    "https://x.org/a.csv?token=s3cr3t&page=2": "https://x.org/a.csv?token=<secret>&page=2",
    "https://x.org/a?X-Amz-Signature=s3cr3t": "https://x.org/a?X-Amz-Signature=<secret>",
    "https://x.org/a?se=1&sig=s3cr3t%3D": "https://x.org/a?se=1&sig=<secret>",
    "read https://a:s3cr3t@x.org and ftp://b:s3cr3t@y.org": "read https://<secret>@x.org and ftp://<secret>@y.org",
    "token hf_abcdefghijklmnopqrstuvwxyz": "token <secret>",
}
KEPT = [
    "https://x.org:8080/a@2.csv",
    "https://x.org/@me/a",
    "me@x.org",
    "a:b@c",
    "https://x.org/a?page=2&sort=key",
]
KEPT += ["user: the soup @ noon", "data/token=1.csv", "10:30 https://x.org", "hf_internal"]


@pytest.mark.parametrize("text", HIDDEN)
def test_what_opens_an_address_is_hidden(text, capsys):
    assert secrets.without_passwords(text) == HIDDEN[text] == visible(text)
    note(text)
    assert "s3cr3t" not in capsys.readouterr().err + str(Refusal(text, text, text))


@pytest.mark.parametrize("text", KEPT)
def test_other_texts_stay_as_they_are(text):
    assert secrets.without_passwords(text) == text


def test_values_within_values_are_hidden_and_others_keep_their_type():
    given = {"a": ["https://u:s3cr3t@x.org", 1], "b": {"c": "s3://k:s3cr3t@b"}, "d": 0.5, "e": None}
    assert secrets.without_passwords(given) == {
        "a": ["https://<secret>@x.org", 1],
        "b": {"c": "s3://<secret>@b"},
        "d": 0.5,
        "e": None,
    }


@pytest.mark.parametrize(
    "flag", ["--train_file", "--dataset_name", "--model_name_or_path", "--tokenizer_name"]
)
def test_a_refusal_of_an_address_does_not_tell_its_password(flag, sentiment, reviews):
    given = merged(*SCRATCH, *SHORT, "--train_file", "train.csv", "--output_dir", "out")
    given = (
        given
        if flag != "--dataset_name"
        else given[: given.index("--train_file")] + ["--output_dir", "out"]
    )
    with pytest.raises(Refusal) as caught:
        sentiment.main(merged(*given, flag, f"https://me:{PASSWORD}@x.org/a"))
    assert PASSWORD not in str(caught.value) and "<secret>@x.org" in str(caught.value)
    assert not [
        path
        for path in reviews.rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    ]


def test_what_a_run_leaves_does_not_tell_a_password(sentiment, reviews, capsys):
    """Here it stands in a flag that a run goes on with."""
    flags = [
        *"--train_file train.csv --output_dir out".split(),
        "--run_name",
        f"https://me:{PASSWORD}@x.org/board",
    ]
    flags += ["--text_column_delimiter", f"s3://KEY:{PASSWORD}@bucket"]
    sentiment.main(merged(*SCRATCH, *SHORT, *flags))
    written = [path for path in reviews.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path.name for path in written if PASSWORD.encode() in path.read_bytes()]
    assert "<secret>@x.org/board" in (reviews / "out/run.yaml").read_text()
    shown = capsys.readouterr()
    assert PASSWORD not in shown.out + shown.err


def test_the_command_that_is_printed_does_not_tell_a_password(capsys, tmp_path):
    recipe = launch.find("sentiment")
    words = launch.command(recipe, ["--train_file", f"https://me:{PASSWORD}@x.org/a.csv"])
    launch.run(words, dry_run=True)
    world = launch.World(num_processes=2, slurm=str(tmp_path / "x.sh"))
    launch.write_slurm(recipe, words[2:], world)
    assert PASSWORD not in capsys.readouterr().out + (tmp_path / "x.sh").read_text()
