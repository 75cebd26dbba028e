"""Content -> its hash."""

import hashlib

import pytest

from recipes.common.runtime import hashing


@pytest.mark.parametrize("size", [1, 1 << 20, (1 << 20) + 1])
def test_the_content_hash_is_sha256_of_the_bytes(size, tmp_path):
    content = b"x" * size
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    assert hashing.content_hash(path) == hashlib.sha256(content).hexdigest()
