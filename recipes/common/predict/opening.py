"""Chooses how a trained folder answers."""

from pathlib import Path

from recipes.common.predict.continuing import CONTINUES
from recipes.common.predict.labelling import Classifier
from recipes.common.predict.mask_filling import MaskFiller
from recipes.common.predict.trained_folder import FLAG, Folder, config_of, read_record
from recipes.common.predict.word_labelling import WordLabeller
from recipes.common.predict.writing import Writer
from recipes.common.runtime.errors import Refusal


def open_folder(folder: str, trust_remote_code: bool = False) -> Folder:
    """Returns the folder's model, ready to answer; refuses what is no trained folder."""
    config = config_of(Path(folder), trust_remote_code)
    kind = (config.architectures or [""])[0]
    task = read_record(Path(folder, "run.json")).get("task")
    if kind.endswith("ForSequenceClassification"):
        return Classifier(folder, trust_remote_code)
    if kind.endswith("ForTokenClassification"):
        return WordLabeller(folder, trust_remote_code)
    if kind.endswith("ForMaskedLM") or task == "fill-mask":  # BART's and XLM's have other names
        return MaskFiller(folder, trust_remote_code)
    if config.is_encoder_decoder:
        return Writer(folder, trust_remote_code)
    if kind.endswith(CONTINUES):
        fix = f"python cli.py generate {folder} --prompt …"
        raise Refusal(f"{folder} holds a causal language model", FLAG, fix)
    what = f"{folder} holds a {kind or config.model_type}, which answers nothing"
    raise Refusal(what, FLAG, "train it first")
