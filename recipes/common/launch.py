"""Recipe + launcher + flags -> the exact command line; imports little, so that it answers at once."""

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from recipes.common.runtime import secrets
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.hashing import hash_of
from recipes.common.runtime.messages import did_you_mean, note, visible, visible_lines

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ROOT / "tools/torchrun.py"
# What each launcher adds to the recipe's flags; every one of them starts its processes with torchrun.
LAUNCHERS = {"ddp": [], "fsdp2": ["--fsdp"]}
LAUNCHERS |= {
    name: ["--deepspeed", name]
    for name in ("zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")
}
PATTERN = re.compile(r"_file\b.*[*?]")  # of files, which others may have come to since
PORT = 29500  # torchrun's own default
# On a CPU torch asks for memory in pages of 2 MB instead of 4 KB; it reads this when it is imported.
HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}


def _flag(default: str | int | None, kind: type, help: str) -> Any:
    return field(default=default, metadata={"help": help, "type": kind})


@dataclass(frozen=True)
class World:
    """The processes to start; each field is a flag of `finetune` and `pretrain`, named as accelerate's."""

    launcher: str = _flag(
        "", str, "ddp, fsdp2, zero1, zero2, zero2_offload, zero3 or zero3_offload."
    )
    num_processes: int | None = _flag(None, int, "Processes over all machines: one a GPU.")
    num_machines: int = _flag(1, int, "Machines.")
    machine_rank: int | None = _flag(None, int, "Which machine this is, from 0.")
    main_process_ip: str = _flag("", str, "The address of machine 0.")
    main_process_port: int | None = _flag(None, int, "A free port of machine 0 (default: 29500).")
    slurm: str = _flag("", str, "Write a SLURM script to this file instead of running.")

    @property
    def is_one_process(self) -> bool:
        """Nothing to launch: the recipe is started as it is."""
        return not self.launcher and (self.num_processes or 1) == 1 and self.num_machines == 1

    @property
    def on_each_machine(self) -> int:
        """Processes a machine."""
        return (self.num_processes or 1) // self.num_machines


def recipes() -> dict[str, Path]:
    """Every folder under recipes/ with a run.py, by name: a recipe is discovered, never registered."""
    return {path.parent.name: path for path in sorted((ROOT / "recipes").glob("*/run.py"))}


def find(name: str, suffix: str = "") -> Path:
    """The run.py of a recipe by its name, `suffix` understood: `mlm` with "_pretrain" finds mlm_pretrain."""
    known = recipes()
    path = known.get(name) or known.get(name + suffix)
    if path is None:
        fix = did_you_mean(name, known, f"recipes: {', '.join(known)}")
        raise Refusal(f"no recipe {name!r}", "recipes/", fix)
    return path


def split(flags: list[str]) -> tuple[World, list[str]]:
    """The processes to start, and the flags that are left for the recipe, untouched."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for item in fields(World):
        parser.add_argument(f"--{item.name}", type=item.metadata["type"], default=item.default)
    namespace, left = parser.parse_known_args(flags)
    return World(**vars(namespace)), left


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refusal(
            message.removeprefix("argument "), "the command line", "see python cli.py show NAME"
        )


def command(recipe: Path, flags: list[str], world: World | None = None) -> list[str]:
    """The words of the command line that runs the recipe with these flags, on as many processes as `world` says."""
    if world is None or world.is_one_process:
        return ["python", _from(Path.cwd(), recipe), *flags]
    check(world)
    where = ["--standalone"]
    if world.num_machines > 1:
        where = ["--nnodes", str(world.num_machines), "--node_rank", str(world.machine_rank)]
        where += [
            "--master_addr",
            world.main_process_ip,
            "--master_port",
            str(world.main_process_port or PORT),
        ]
    elif world.main_process_port:
        where = ["--master_addr", "127.0.0.1", "--master_port", str(world.main_process_port)]
    return _torchrun(recipe, flags, world, where, Path.cwd())


def _torchrun(
    recipe: Path, flags: list[str], world: World, where: list[str], folder: Path
) -> list[str]:
    words = [
        "python",
        _from(folder, TORCHRUN),
        *where,
        "--nproc_per_node",
        str(world.on_each_machine),
    ]
    added = [*LAUNCHERS[world.launcher or "ddp"], "--num_processes", str(world.num_processes)]
    return [*words, _from(folder, recipe), *flags, *added]


def _from(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def check(world: World) -> None:
    """Refuses what cannot be started: an unknown launcher, sums that do not come out even, a machine without a rank."""
    if world.launcher and world.launcher not in LAUNCHERS:
        fix = did_you_mean(world.launcher, LAUNCHERS, f"launchers: {', '.join(LAUNCHERS)}")
        raise Refusal(f"no launcher {world.launcher!r}", "--launcher", fix)
    if not world.num_processes or world.num_processes < 1 or world.num_machines < 1:
        raise Refusal(
            "how many processes?",
            "--num_processes",
            "say --num_processes N: one a GPU, over all machines",
        )
    if world.num_processes % world.num_machines:
        what = f"{world.num_processes} processes cannot be shared by {world.num_machines} machines"
        raise Refusal(
            what,
            "--num_processes",
            f"give a multiple of {world.num_machines}: it counts all machines",
        )
    if world.slurm:
        return
    if world.num_machines > 1:
        _check_machine(world)
    if world.main_process_port and not world.machine_rank and not _is_free(world.main_process_port):
        what = f"port {world.main_process_port} is taken on this machine"
        raise Refusal(
            what,
            "--main_process_port",
            "choose another one; on several machines the same everywhere",
        )


def _check_machine(world: World) -> None:
    if world.machine_rank is None or not 0 <= world.machine_rank < world.num_machines:
        what = (
            "which machine is this?"
            if world.machine_rank is None
            else f"no machine {world.machine_rank}"
        )
        fix = f"--machine_rank 0 on the first machine, … {world.num_machines - 1} on the last"
        raise Refusal(what, "--machine_rank", fix)
    if not world.main_process_ip:
        fix = "give the address of machine 0, on every machine"
        raise Refusal("where is machine 0?", "--main_process_ip", fix)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def write_slurm(recipe: Path, flags: list[str], world: World, dry_run: bool = False) -> None:
    """Writes a SLURM script: ds_configs/slurm.sh with the command and the sizes filled in; a dry run prints it."""
    check(world)
    flags, token = secrets.taken_out(flags)
    flags = secrets.masked(flags)
    if token:
        note(f"the token is not written there: export {secrets.VARIABLE} before you call sbatch")
    where = ["--nnodes", str(world.num_machines), "--node_rank", "$SLURM_NODEID"]
    where += ["--master_addr", "$MASTER_ADDR", "--master_port", "$MASTER_PORT"]
    words = _torchrun(recipe, flags, world, where, Path.cwd())
    line = " ".join(word if word.startswith("$") else shlex.quote(word) for word in words)
    filled = {
        "NAME": recipe.parent.name,
        "MACHINES": world.num_machines,
        "PROCESSES": world.on_each_machine,
    }
    filled |= {
        "FOLDER": shlex.quote(str(Path.cwd())),
        "ROOT": shlex.quote(str(ROOT)),
        "COMMAND": shlex.quote(line),
    }
    text = (ROOT / "ds_configs/slurm.sh").read_text(encoding="utf-8")
    for key, value in filled.items():
        text = text.replace(f"@{key}@", str(value))
    if dry_run:
        return print(text)
    Path(world.slurm).parent.mkdir(parents=True, exist_ok=True)
    Path(world.slurm).write_text(text, encoding="utf-8")
    note(f"wrote {world.slurm}: read it, then sbatch {world.slurm}")


def run(words: list[str], dry_run: bool = False) -> int:
    """Prints the command and becomes it, so that signals and the exit code are its own; a dry run only prints."""
    threads = _threads(words)
    words, token = secrets.taken_out(words)
    shown = shlex.join(
        [*(f"{name}={value}" for name, value in threads.items()), *secrets.masked(words)]
    )
    print("$", visible(shown, len(shown) * 10), flush=True)
    if dry_run:
        return 0
    if (table := _already_complete(words)) is not None:
        print(visible_lines(table), "\n")
        return 0
    words, environment = [sys.executable, *words[1:]], HUGE_PAGES | os.environ | threads
    if token:  # in a command line everyone on the machine could read it
        environment[secrets.VARIABLE] = token
    if os.name == "posix":
        os.execve(words[0], words, environment)
    return subprocess.call(words, env=environment)


def _already_complete(words: list[str]) -> str | None:
    """The scores of a complete run of this very command, with the same configurations, models and data; found without
    torch, which takes seconds to import. The recipe itself looks again, and closer, where this finds None."""
    script = next(place for place, word in enumerate(words) if Path(word).name == "run.py")
    configured = Path(words[script]).with_name("config.yaml")
    text = configured.read_text(encoding="utf-8") if configured.is_file() else ""
    found = re.search(r"--output_dir[= ](\S+)", " ".join(words)) or re.search(
        r"^output_dir: *(\S+)", text, re.M
    )
    command = shlex.join(secrets.masked(["python", *words[script:]]))
    if any(word.startswith("--overwrite_output_dir") for word in words):
        return None
    try:
        facts = json.loads(Path(found[1], "run.json").read_text(encoding="utf-8")) if found else {}
        same = facts.get("status") == "complete" and facts["command"] == command
        read = facts["configurations"] | facts["data_sha256"] if same else {}
        read |= {one["path"]: one["sha256"] for one in facts["inputs"].values()} if same else {}
        if not same or any(hash_of(Path(path)) != known for path, known in read.items()):
            return None
        texts = [
            command,
            *(Path(path).read_text(encoding="utf-8") for path in facts["configurations"]),
        ]
        if any(map(PATTERN.search, texts)) or _names_folder(texts, facts["data_sha256"]):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    note(f"already complete: {Path(found[1], 'README.md')}; to start over: --overwrite_output_dir")
    return str(facts.get("table"))


def _names_folder(texts: list[str], read: Iterable[str]) -> bool:
    """Whether a word of the texts is a folder in which data lies that was read: other files may have come into it."""
    folders = {str(folder) for path in read for folder in Path(path).parents}
    words = (word.rstrip("/") for text in texts for word in re.split(r"[\s='\",\[\]]+", text))
    return not folders.isdisjoint(words)


def _threads(words: list[str]) -> dict[str, str]:
    """Several processes share the cores; torchrun would give one thread to each."""
    if "--nproc_per_node" not in words or "OMP_NUM_THREADS" in os.environ:
        return {}
    processes = int(words[words.index("--nproc_per_node") + 1])
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
