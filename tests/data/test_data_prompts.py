"""Files of prompts: what is read of them, and what is refused."""

import pytest

from semdlm_jax.data.conditioning import read_prompts
from semdlm_jax.errors import UserError


def test_prompts_are_the_lines_with_text(tmp_path):
    """A line ends at a line feed, whatever else some take for an end."""
    path = tmp_path / "prompts.txt"
    path.write_bytes("\n  first one \n\n \t\r\nsecond: “ü”\r\none\u2028and\x85the\fsame\vone\x1cstill\nthird".encode())
    wanted = ["first one", "second: “ü”", "one\u2028and\x85the\fsame\vone\x1cstill", "third"]
    assert read_prompts(path) == read_prompts(str(path)) == dict(zip((2, 5, 6, 7), wanted, strict=True))


def test_a_mark_at_the_start_of_the_file_is_no_text(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbffirst\nsecond\n")
    assert read_prompts(path) == {1: "first", 2: "second"}
    path.write_bytes(b"\xef\xbb\xbf\n")
    with pytest.raises(UserError, match="holds no text"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read .*: give the path of a file that is there"),
        (b"caf\xe9 noir\n", "line 1: not UTF-8 text .*: convert it to UTF-8"),
        (b"", "holds no text: give a prompt a line"),
        (b"\n \n\t\r\n", "holds no text: give a prompt a line"),
    ],
)
def test_a_file_without_prompts_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says) as refused:
        read_prompts(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path)
