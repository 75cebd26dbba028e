"""Builds the exact command line of a recipe, a launcher and flags, and runs it.

It imports little, so that the command line answers at once.
"""

import argparse
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from recipes.common.runtime import secrets
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, note, visible

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ROOT / "tools/torchrun.py"
# DeepSpeed's configurations by name: each is a launcher.
DEEPSPEED = {path.stem: path for path in sorted((ROOT / "ds_configs").glob("*.json"))}
# What each launcher adds to the recipe's flags. All of them start their processes with torchrun.
LAUNCHERS = {
    "ddp": [],
    "fsdp2": ["--fsdp"],
    **{name: ["--deepspeed", name] for name in DEEPSPEED},
}
PORT = 29500  # torchrun's own default
# With it torch on a CPU asks for memory in pages of 2 MB instead of 4 KB. It is read at the import.
HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}


Range = tuple[int, int]
ON_EACH_MACHINE = 512  # processes, at most
MACHINES = 100_000
PORTS: Range = (1, 65_535)
NEEDS_SEVERAL = ("machine_rank", "main_process_ip", "main_process_port")


def _flag(default: str | int | None, kind: type, help: str, range: Range | None = None) -> Any:
    return field(default=default, metadata={"help": help, "type": kind, "range": range})


@dataclass(frozen=True)
class World:
    """Describes the processes to start.

    Each field is a flag of `finetune` and `pretrain`, named as accelerate's.
    """

    launcher: str = _flag(
        "", str, "ddp, fsdp2, or a configuration in ds_configs/: zero1, zero2, zero3_offload, …"
    )
    num_processes: int | None = _flag(
        None, int, "Processes over all machines: one per GPU.", (1, 100_000)
    )
    num_machines: int = _flag(1, int, "Machines.", (1, MACHINES))
    machine_rank: int | None = _flag(None, int, "Which machine this is, from 0.", (0, MACHINES - 1))
    main_process_ip: str = _flag("", str, "The address of machine 0.")
    main_process_port: int | None = _flag(
        None, int, "A free port of machine 0 (default: 29500).", PORTS
    )
    slurm: str = _flag("", str, "Write a SLURM script to this file instead of running.")

    @property
    def is_one_process(self) -> bool:
        """Whether there is nothing to launch: the recipe is started as it is."""
        return not self.launcher and (self.num_processes or 1) == 1 and self.num_machines == 1

    @property
    def on_each_machine(self) -> int:
        """The number of processes per machine."""
        return (self.num_processes or 1) // self.num_machines


def recipes() -> dict[str, Path]:
    """Returns the run.py of every recipe by the recipe's name, which is its folder's.

    A recipe is discovered, never registered.
    """
    return {path.parent.name: path for path in sorted((ROOT / "recipes").glob("*/run.py"))}


def find(name: str, suffix: str = "") -> Path:
    """Returns the run.py of a recipe by its name, which may lack the suffix.

    With the suffix "_pretrain", `mlm` finds mlm_pretrain. `-` stands for `_`, as on the Hub.
    """
    known = recipes()
    folder = name.replace("-", "_")
    path = known.get(folder) or known.get(folder + suffix)
    if path is None:
        fix = did_you_mean(name, known, f"recipes: {', '.join(known)}")
        raise Refusal(f"no recipe {name!r}", "recipes/", fix)
    return path


def split(flags: list[str]) -> tuple[World, list[str]]:
    """Returns the processes to start, and the flags that are left for the recipe, untouched."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for item in fields(World):
        parser.add_argument(f"--{item.name}", type=item.metadata["type"], default=item.default)
    namespace, left = parser.parse_known_args(flags)
    world = World(**vars(namespace))
    for item in fields(World):
        _check_range(item.name, getattr(world, item.name), item.metadata["range"])
    return world, left


def _check_range(name: str, value: Any, range: Range | None) -> None:
    if range and value is not None and not range[0] <= value <= range[1]:
        fix = f"give a number from {range[0]} to {range[1]}"
        raise Refusal(f"--{name} is {value}", f"--{name}", fix)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        what = message.removeprefix("argument ")
        raise Refusal(what, "the command line", "see python cli.py show NAME")


def command(recipe: Path, flags: list[str], world: World | None = None) -> list[str]:
    """Returns the words of the command line that runs the recipe with these flags.

    `world` says on how many processes; without it there is one.
    """
    if world is None or world.is_one_process:
        _say_what_has_no_effect(world or World())
        return ["python", _from(Path.cwd(), recipe), *flags]
    check(world)
    return _torchrun(recipe, flags, world, _meeting_place(world))


def _say_what_has_no_effect(world: World) -> None:
    for name in NEEDS_SEVERAL:
        if getattr(world, name) not in (None, ""):
            note(f"--{name} has no effect: there is one process (--num_processes starts several)")


def _meeting_place(world: World) -> list[str]:
    """Returns the flags of torchrun that say where its processes find each other."""
    port = str(world.main_process_port or PORT)
    if world.num_machines > 1:
        machines = ["--nnodes", str(world.num_machines), "--node_rank", str(world.machine_rank)]
        return [*machines, "--master_addr", world.main_process_ip, "--master_port", port]
    if world.main_process_port:
        return ["--master_addr", "127.0.0.1", "--master_port", port]
    return ["--standalone"]


def _torchrun(recipe: Path, flags: list[str], world: World, where: list[str]) -> list[str]:
    here = Path.cwd()
    number = ["--nproc_per_node", str(world.on_each_machine)]
    words = ["python", _from(here, TORCHRUN), *where, *number]
    added = [*LAUNCHERS[world.launcher or "ddp"], "--num_processes", str(world.num_processes)]
    return [*words, _from(here, recipe), *flags, *added]


def _from(folder: Path, path: Path) -> str:
    """Returns a path below the folder relative to it, and any other path as it is."""
    if path.is_relative_to(folder):
        path = path.relative_to(folder)
    return str(path)


def check(world: World) -> None:
    """Refuses what cannot be started.

    That is an unknown launcher, a number of processes that the machines cannot share evenly, or a
    machine without a rank.
    """
    if world.launcher and world.launcher not in LAUNCHERS:
        fix = did_you_mean(world.launcher, LAUNCHERS, f"launchers: {', '.join(LAUNCHERS)}")
        raise Refusal(f"no launcher {world.launcher!r}", "--launcher", fix)
    if not world.num_processes:
        fix = "say --num_processes N: one per GPU, over all machines"
        raise Refusal("the number of processes is missing", "--num_processes", fix)
    if world.on_each_machine > ON_EACH_MACHINE:
        what = f"{world.on_each_machine} processes per machine"
        raise Refusal(what, "--num_processes", f"at most {ON_EACH_MACHINE} per machine")
    if world.num_processes % world.num_machines:
        what = f"{world.num_machines} machines cannot share {world.num_processes} processes evenly"
        fix = f"give a multiple of {world.num_machines}: it counts all machines"
        raise Refusal(what, "--num_processes", fix)
    if world.slurm:
        return
    if world.num_machines > 1:
        _check_machine(world)
    if world.main_process_port and not world.machine_rank and not _is_free(world.main_process_port):
        what = f"port {world.main_process_port} is taken on this machine"
        fix = "choose another port, the same one on all machines"
        raise Refusal(what, "--main_process_port", fix)


def _check_machine(world: World) -> None:
    fix = f"--machine_rank 0 on the first machine, … {world.num_machines - 1} on the last"
    if world.machine_rank is None:
        raise Refusal("the rank of this machine is missing", "--machine_rank", fix)
    if not 0 <= world.machine_rank < world.num_machines:
        raise Refusal(f"no machine {world.machine_rank}", "--machine_rank", fix)
    if not world.main_process_ip:
        fix = "give the address of machine 0, on every machine"
        raise Refusal("the address of machine 0 is missing", "--main_process_ip", fix)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def write_slurm(recipe: Path, flags: list[str], world: World, dry_run: bool = False) -> None:
    """Writes a SLURM script: ds_configs/slurm.sh with the command and the sizes filled in.

    A dry run prints it instead.
    """
    check(world)
    flags, token = secrets.taken_out(flags)
    flags = secrets.masked(flags)
    if token:
        note(
            f"the script does not hold the token: export {secrets.VARIABLE} before you call sbatch"
        )
    where = ["--nnodes", str(world.num_machines), "--node_rank", "$SLURM_NODEID"]
    where += ["--master_addr", "$MASTER_ADDR", "--master_port", "$MASTER_PORT"]
    words = _torchrun(recipe, flags, world, where)
    filled = {
        "NAME": recipe.parent.name,
        "MACHINES": str(world.num_machines),
        "PROCESSES": str(world.on_each_machine),
        "FOLDER": shlex.quote(str(Path.cwd())),
        "ROOT": shlex.quote(str(ROOT)),
        "COMMAND": shlex.quote(" ".join(map(_quoted, words))),
    }
    text = (ROOT / "ds_configs/slurm.sh").read_text(encoding="utf-8")
    for key, value in filled.items():
        text = text.replace(f"@{key}@", value)
    if dry_run:
        print(text)
        return
    Path(world.slurm).parent.mkdir(parents=True, exist_ok=True)
    Path(world.slurm).write_text(text, encoding="utf-8")
    note(f"wrote {world.slurm}: read it, then sbatch {world.slurm}")


def _quoted(word: str) -> str:
    """Returns a word quoted for the shell; variables stay bare, and the shell replaces them."""
    if word.startswith("$"):
        return word
    return shlex.quote(word)


def run(words: list[str], dry_run: bool = False) -> int:
    """Prints the command and becomes it, so that signals and the exit code are its own.

    A dry run only prints the command.
    """
    threads = _threads(words)
    words, token = secrets.taken_out(words)
    variables = [f"{name}={value}" for name, value in threads.items()]
    shown = shlex.join([*variables, *secrets.masked(words)])
    print("$", visible(shown, len(shown) * 10), flush=True)
    if dry_run:
        return 0
    words = [sys.executable, *words[1:]]
    environment = HUGE_PAGES | os.environ | threads
    if token:  # everyone on the machine could read it in a command line
        environment[secrets.VARIABLE] = token
    if os.name == "posix":
        os.execve(words[0], words, environment)
    return subprocess.call(words, env=environment)


def _threads(words: list[str]) -> dict[str, str]:
    """Returns the environment variable that divides the cores among several processes.

    torchrun by itself would give each process one thread.
    """
    if "--nproc_per_node" not in words or "OMP_NUM_THREADS" in os.environ:
        return {}
    processes = int(words[words.index("--nproc_per_node") + 1])
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
