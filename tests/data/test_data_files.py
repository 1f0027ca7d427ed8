import pytest

from semdlm_jax.data import files
from semdlm_jax.errors import UserError


def test_read_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffnaïve\r\n".encode())
    assert files.read_text(path) == "naïve\r\n"
    for bad in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(UserError, match="cannot be read"):
            files.read_text(bad)
