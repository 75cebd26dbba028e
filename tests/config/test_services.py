"""Packages and services that flags ask for are asked about before any data is read."""

import json

import pytest
import transformers
from conftest import SCRATCH, SHORT, merged
from huggingface_hub.errors import HfHubHTTPError
from transformers.integrations import integration_utils

from recipes.common.config import services
from recipes.common.data import sources
from recipes.common.runtime.errors import DISK, Refusal

FLAGS = "--train_file train.csv --test_file test.csv --output_dir out --bf16 false".split()
FLAGS = [*FLAGS, *SCRATCH, *SHORT]


@pytest.fixture
def unread(monkeypatch):
    """Fails as soon as data is read."""

    def load(*arguments, **options):
        pytest.fail("data was read")

    monkeypatch.setattr(sources, "find", load)


# Flags -> where the refusal points, and its words. These packages are not among the requirements.
MISSING = {
    "--report_to mlflow": ("--report_to mlflow", "pip install mlflow"),
    "--report_to wandb": ("--report_to wandb", "pip install wandb"),
    "--report_to comet_ml": ("--report_to comet_ml", "pip install comet-ml"),
    "--report_to tensorbord": ("--report_to", "did you mean tensorboard?"),
    "--report_to nobody": ("--report_to", "one of none, all, azure_ml"),
    "--optim galore_adamw --optim_target_modules all-linear": ("--optim", "galore_torch"),
    "--optim apollo_adamw --optim_target_modules all-linear": ("--optim", "apollo_torch"),
    "--optim lomo": ("--optim", "lomo_optim"),
    "--optim adamw_torch_8bit": ("--optim", "torchao"),
    "--optim schedule_free_adamw": ("--optim", "schedulefree"),
    "--optim grokadamw": ("--optim", "grokadamw"),
    "--optim stable_adamw": ("--optim", "torch-optimi"),
    "--optim adamw_anyprecision": ("--optim", "torchdistx"),
    "--optim adamw_torch_npu_fused": ("--optim", "torch_npu"),
    "--optim adamw_torch_xla": ("--optim", "torch_xla"),
    "--optim_args momentum=0.9": ("--optim_args", "adamw_torch_fused has no such setting"),
    "--optim sgd --optim_args momentum": ("--optim_args", "write name=value"),
    "--optim sgd --optim_args momentum=x": ("--optim_args", "could not convert"),
    "--optim sgd --optim_args foo=1": ("--optim_args", "sgd has no such setting"),
    '--lr_scheduler_kwargs {"min_lr":1e-5}': (
        "--lr_scheduler_kwargs",
        "unexpected keyword argument 'min_lr'",
    ),
    "--lr_scheduler_type warmup_stable_decay": ("--lr_scheduler_kwargs", "num_decay_steps"),
    "--lr_scheduler_type cosine_with_min_lr": ("--lr_scheduler_kwargs", "min_lr"),
    "--lr_scheduler_kwargs nonsense": ("--lr_scheduler_kwargs", "must be a mapping"),
    "--use_liger_kernel": ("--use_liger_kernel", "pip install liger-kernel"),
    "--debug underflow_overflow": ("--debug", "ends a run anyway"),
    "--debug tpu_metrics_debug": ("--debug", "needs a TPU"),
    "--torch_compile_mode quick": ("--torch_compile_mode", "no mode 'quick'"),
    '--activation_checkpointing --activation_checkpointing_kwargs {"x":1}': (
        "--activation_checkpointing_kwargs",
        "x",
    ),
    '--accelerator_config {"even_batches":false}': (
        "--accelerator_config",
        "itself decides about even_batches",
    ),
    "--accelerator_config nowhere.json": ("the arguments", "No such file"),
    "--push_to_hub": ("--push_to_hub", "nobody is logged in"),
}


@pytest.mark.parametrize("words", MISSING)
def test_what_is_missing_is_refused_before_data_is_read(
    words, sentiment, reviews, unread, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    where, said = MISSING[words]
    with pytest.raises(Refusal) as caught:
        sentiment.main(merged(*FLAGS, *words.split()))
    assert caught.value.where == where
    assert said in str(caught.value)
    assert not (reviews / "out").exists()


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adagrad", "adafactor", "adamw_torch"])
def test_optimizers_that_are_there_are_taken(name, tmp_path):
    settings = {
        "sgd": "momentum=0.9,nesterov=true",
        "rmsprop": "alpha=0.5",
        "adagrad": "lr_decay=0.1",
    }
    arguments = transformers.TrainingArguments(
        output_dir=tmp_path, optim=name, optim_args=settings.get(name), use_cpu=True
    )
    services._check_optimizer(arguments)


@pytest.mark.parametrize("name", ["tensorboard", "tb", "all"])
def test_curves_are_written_for_tensorboard(name, sentiment, reviews):
    sentiment.main([*FLAGS, "--report_to", name])
    assert list((reviews / "out/runs").rglob("events.out.tfevents.*"))


class Failing(transformers.TrainerCallback):
    """A service that answers the first time only."""

    def on_log(self, args, state, control, **options):
        """Cannot be reached."""
        raise ConnectionError("the server does not answer")


def test_a_training_outlives_the_service_that_it_reports_to(
    sentiment, reviews, monkeypatch, capsys
):
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "flyte", Failing)
    sentiment.main([*FLAGS, "--report_to", "flyte"])
    assert json.loads((reviews / "out/run.json").read_text())["status"] == "complete"
    said = "warning: flyte gets no more reports: the server does not answer; the training continues"
    assert capsys.readouterr().err.count(said) == 1


@pytest.fixture
def hub(monkeypatch):
    """A Hub that makes repositories, and then does as `hub.error` says."""

    class Hub:
        error, made = None, []

        def create_repo(self, name, **options):
            self.made.append((name, options["token"]))
            return type("Made", (), {"repo_id": f"me/{name}"})

        def push(self):
            if self.error:
                raise self.error

    hub = Hub()
    monkeypatch.setattr("huggingface_hub.create_repo", hub.create_repo)
    monkeypatch.setattr(transformers.Trainer, "init_hf_repo", lambda trainer, *arguments: None)
    monkeypatch.setattr(transformers.Trainer, "push_to_hub", lambda trainer: hub.push())
    return hub


def test_a_model_is_pushed_at_the_end(hub, sentiment, reviews, capsys):
    sentiment.main([*FLAGS, "--push_to_hub", "--hub_token", "hf_x"])
    assert hub.made == [("out", "hf_x")]
    assert "pushed to https://huggingface.co/me/out" in capsys.readouterr().err
    assert "hf_x" not in (reviews / "out/run.yaml").read_text()


def test_a_model_that_could_not_be_pushed_is_whole_and_its_message_says_how(
    hub, sentiment, reviews
):
    hub.error = ConnectionError("no route to host")
    with pytest.raises(services.NotPushed) as caught:
        sentiment.main([*FLAGS, "--push_to_hub", "--hub_token", "hf_x"])
    assert caught.value.exit_code == DISK
    assert "the Hub does not answer: no route to host" in caught.value.what
    assert "hf upload me/out out ." in caught.value.fix
    assert json.loads((reviews / "out/run.json").read_text())["status"] == "complete"
    assert (reviews / "out/model.safetensors").exists()


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_hub_that_lets_nobody_in_is_asked_before_data_is_read(
    status, hub, sentiment, reviews, unread, monkeypatch
):
    response = type("Response", (), {"status_code": status, "headers": {}, "request": None})()

    def create_repo(name, **options):
        raise HfHubHTTPError("the server says no", response=response)

    monkeypatch.setattr("huggingface_hub.create_repo", create_repo)
    with pytest.raises(Refusal, match="could not be pushed: the server says no") as caught:
        sentiment.main([*FLAGS, "--push_to_hub", "--hub_token", "hf_x"])
    assert ("hf auth login" in caught.value.fix) is (status in (401, 403))


def test_a_run_that_is_told_to_stop_saves_by_the_recipe_s_own_means(sentiment, reviews, capsys):
    """transformers' own takes the signal away, and a half-trained model would count as complete."""
    sentiment.main([*FLAGS, "--enable_jit_checkpoint", "true"])
    assert "a run saves anyway when it is stopped" in capsys.readouterr().err
