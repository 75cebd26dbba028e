"""Draws the plots of a run: learning curves, and what the task draws itself."""

from pathlib import Path
from typing import Any

from recipes.common.report.task import Row, Task

MOST_CURVES = 4  # of a user's own metrics
# Fonts with Chinese characters, which matplotlib's own has not; the first that is installed is
# used.
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Zen Hei",
    "SimHei",
)

Point = tuple[int, float]  # step and value
History = list[dict[str, Any]]  # what Trainer has logged


def draw(folder: Path, history: History, rows: list[Row], task: Task) -> list[Path]:
    """Draws the plots that there is data for: learning_curves.png, and the task's own."""
    import matplotlib

    matplotlib.use("Agg")
    _use_installed_fonts()
    folder.mkdir(exist_ok=True)
    curves = _learning_curves(folder / "learning_curves.png", history, task)
    return [*curves, *task.plot(folder, rows)]


def _learning_curves(path: Path, history: History, task: Task) -> list[Path]:
    """Draws the losses on one axis and the headline metric on another; each metric of one's own
    below them."""
    from matplotlib import pyplot

    training = _points(history, "loss")
    if not training:
        return []
    others, left_out = _own_metrics(history, task)
    figure, panels = pyplot.subplots(
        1 + len(others),
        figsize=(7, 4 + 2 * len(others)),
        height_ratios=[2] + [1] * len(others),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    upper, *below = panels[:, 0]
    lines = _draw_losses(upper, training, _points(history, "eval_loss"))
    lines += _draw_headline(upper, _points(history, f"eval_{task.headline}"), task.headline)
    for axes, name in zip(below, others, strict=True):
        axes.plot(*_columns(_points(history, f"eval_{name}")), color="tab:green", marker="s")
        axes.set(ylabel=name)
        axes.grid(alpha=0.3)
    last = "step"
    if left_out:
        last += f"\nnot drawn: {', '.join(left_out)}"
    panels[-1, 0].set(xlabel=last)
    labels = [line.get_label() for line in lines]
    figure.legend(lines, labels, loc="outside upper center", ncols=len(lines))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return [path]


def _draw_losses(axes: Any, training: list[Point], validation: list[Point]) -> list[Any]:
    axes.plot(*_columns(training), color="tab:gray", label="training loss")
    if validation:
        columns = _columns(validation)
        axes.plot(*columns, color="tab:orange", marker="o", label="validation loss")
    axes.set(ylabel="loss (nats)")
    axes.grid(alpha=0.3)
    return [*axes.get_lines()]


def _draw_headline(axes: Any, points: list[Point], name: str) -> list[Any]:
    if not points:
        return []
    right = axes.twinx()
    right.plot(*_columns(points), color="tab:blue", marker="s", label=f"validation {name}")
    right.set_ylabel(name)
    return [*right.get_lines()]


def _own_metrics(history: History, task: Task) -> tuple[list[str], list[str]]:
    """Returns the metrics that only a user's own compute_metrics returns: those that are drawn, and
    those for which there is no room."""
    logged: dict[str, None] = {}
    for entry in history:
        for name, value in entry.items():
            if isinstance(value, int | float):
                logged[name] = None
    others = [name for name in task.others(logged, ["eval"]) if name != task.headline]
    return others[:MOST_CURVES], others[MOST_CURVES:]


def _points(history: History, name: str) -> list[Point]:
    return [(entry["step"], entry[name]) for entry in history if name in entry]


def _columns(points: list[Point]) -> tuple[list[int], list[float]]:
    steps, values = zip(*points, strict=True)
    return list(steps), list(values)


def _use_installed_fonts() -> None:
    """Lets labels in Chinese be drawn with a font of this machine."""
    from matplotlib import font_manager, rcParams

    installed = {font.name for font in font_manager.fontManager.ttflist}
    chinese = [name for name in CHINESE_FONTS if name in installed]
    rcParams["font.family"] = ["DejaVu Sans", *chinese]
