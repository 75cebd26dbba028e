"""Chooses how a trained folder answers: as its recipe says, or as its model does."""

import importlib.util
import sys
from pathlib import Path

from recipes.common import launch
from recipes.common.model.loading import OF_TEXTS, OF_WORDS
from recipes.common.predict.continuing import CONTINUES
from recipes.common.predict.labelling import Classifier
from recipes.common.predict.mask_filling import MaskFiller
from recipes.common.predict.trained_folder import FLAG, Folder, config_of, read_record
from recipes.common.predict.word_labelling import WordLabeller
from recipes.common.predict.writing import Writer
from recipes.common.runtime.errors import Refusal

OWN = "Predictor"  # the class in a recipe's run.py that answers for the folders that it trains

# The ends of the names of models, and what answers with them.
BY_ARCHITECTURE: dict[str, type[Folder]] = {
    OF_TEXTS: Classifier,
    OF_WORDS: WordLabeller,
    "ForMaskedLM": MaskFiller,
}


def open_folder(folder: str, trust_remote_code: bool = False) -> Folder:
    """Returns the folder's model, ready to answer; refuses what is no trained folder."""
    config = config_of(Path(folder), trust_remote_code)
    kind = (config.architectures or [""])[0]
    record = read_record(Path(folder, "run.json"))
    if own := own_predictor(record.get("recipe")):
        return own(folder, trust_remote_code)
    for ending, answers in BY_ARCHITECTURE.items():
        if kind.endswith(ending):
            return answers(folder, trust_remote_code)
    if record.get("task") == "fill-mask":  # BART's and XLM's masked models have other names
        return MaskFiller(folder, trust_remote_code)
    if config.is_encoder_decoder:
        return Writer(folder, trust_remote_code)
    if kind.endswith(CONTINUES):
        fix = f"python cli.py generate {folder} --prompt …"
        raise Refusal(f"{folder} holds a causal language model", FLAG, fix)
    what = f"{folder} holds a {kind or config.model_type}, which has no head to answer with"
    raise Refusal(what, FLAG, "train it first")


def own_predictor(recipe: object) -> type[Folder] | None:
    """Returns the class Predictor of a recipe, or None where it has none.

    Only recipes of this checkout are imported: a folder from elsewhere brings no code.
    """
    path = launch.recipes().get(str(recipe))
    if path is None or f"\nclass {OWN}(" not in path.read_text(encoding="utf-8"):
        return None
    spec = importlib.util.spec_from_file_location(f"recipes.{recipe}.run", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return getattr(module, OWN)
