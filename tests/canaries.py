"""What a hostile file would do: pickles that write a file when they are loaded, code that does, bombs."""

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch

from recipes.common.checkpoints import atomic_folder

MEMBER = 10_000_000  # bytes of a bomb's part


class Canary:
    """An object whose unpickling writes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def pickled(marker):
    """Returns the bytes of a pickle that writes the file `marker` when it is loaded."""
    return pickle.dumps(Canary(marker))


def saved(marker):
    """Returns the bytes of a file by torch.save that writes the file `marker` when it is loaded."""
    stream = io.BytesIO()
    torch.save({"state": Canary(marker)}, stream)
    return stream.getvalue()


def code(marker, *names):
    """Returns Python that writes the file `marker` when imported, with classes of these names."""
    return "\n".join(
        [f"open({str(marker)!r}, 'w').close()", *(f"class {name}:\n    pass" for name in names), ""]
    )


def extension(marker):
    """A table whose field says that it is a pickled Python type."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickled(marker),
    }
    fields = [
        pyarrow.field("text", pyarrow.string(), metadata=metadata),
        pyarrow.field("label", pyarrow.string()),
    ]
    columns = [[f"soup {number}" for number in range(40)], ["a", "b"] * 20]
    return pyarrow.table(columns, schema=pyarrow.schema(fields))


def as_parquet(table):
    """The bytes of a parquet file."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def as_arrow(table):
    """The bytes of an Arrow stream."""
    stream = io.BytesIO()
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def as_tar(marker):
    """The bytes of a WebDataset whose samples hold pickles."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in {
            "0.pyd": pickled(marker),
            "0.pickle": pickled(marker),
            "0.pth": saved(marker),
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def gz_bomb(part, size=1_000_000_000):
    """Returns some kilobytes of gzip that unpack to `size` bytes of repeated `part`."""
    member = gzip.compress(part * (MEMBER // len(part)))
    return member * (size // MEMBER)


def list_again(checkpoint):
    """Writes the manifest anew, as if all that lies in the checkpoint had been saved there."""
    files = [
        path
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name != atomic_folder.MANIFEST
    ]
    entries = {str(path.relative_to(checkpoint)): atomic_folder.entry(path) for path in files}
    (checkpoint / atomic_folder.MANIFEST).write_text(
        json.dumps({"files": entries}, indent=2), encoding="utf-8"
    )


def change(path, **values):
    """Sets keys of a JSON file."""
    found = json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).exists() else {}
    Path(path).write_text(json.dumps(found | values), encoding="utf-8")
