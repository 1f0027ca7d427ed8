"""Files that appear whole or not at all, and what is never replaced."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from semdlm_jax.data.conditioning import read_prompts
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.files import read_text
from semdlm_jax.data.lm1b import prepare_lm1b
from semdlm_jax.data.prepared import open_prepared
from semdlm_jax.data.tokenizers import given_tokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.record import read_config
from semdlm_jax.runtime.metrics import last_step
from semdlm_jax.semantics.table import read_table
from semdlm_jax.storage import check_writable, growing, replacing, same_file, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full(monkeypatch):
    """From now on the disk holds no further byte of `growing`, and no rename succeeds."""

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", fail)
    monkeypatch.setattr("os.replace", fail)


def test_the_new_contents_appear_at_the_end(tmp_path):
    path = tmp_path / "page"
    path.write_text("old")
    with replacing(path) as file:
        file.write("new “ü” \udcff")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new “ü” \\udcff" and names(tmp_path) == ["page"]
    with replacing(path, "wb") as file:
        file.write(b"\0")
    assert path.read_bytes() == b"\0"


@pytest.mark.parametrize("failure", [KeyError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(tmp_path, failure):
    path = tmp_path / "page"
    path.write_text("old")
    with pytest.raises(failure), replacing(path) as file:
        file.write("new")
        raise failure
    assert path.read_text() == "old" and names(tmp_path) == ["page"]


def test_a_full_disk_is_one_sentence(tmp_path, full):
    path = tmp_path / "page"
    path.write_text("old")
    with pytest.raises(UserError, match=r"page: the disk is full: free space there"):
        write_text(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["page"]


def test_modes_are_those_of_open_or_stay(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o604)
    write_text(tmp_path / "new", "again")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path, there):
    target, link = tmp_path / "a" / "target", tmp_path / "link"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(target)
    check_writable(link)
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and names(target.parent) == ["target"]


@pytest.mark.parametrize("write", [write_text, lambda path, text: _grow(path, [text])])
def test_a_device_or_a_pipe_is_written_into(tmp_path, write):
    check_writable("/dev/null")
    write("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if os.path.exists("/dev/full"):
        with pytest.raises(UserError, match="/dev/full: the disk is full"):
            write("/dev/full", "text")
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    check_writable(pipe)
    write(pipe, "text")
    reader.join()
    assert found == ["text"] and names(tmp_path) == ["pipe"]


SCRIPT = """
from semdlm_jax.storage import growing, write_text
print("before")
write_text("/dev/stdout", "whole\\n")
with growing("/dev/stdout") as append:
    append("part\\n")
print("after")
"""


@pytest.mark.parametrize("piped", [True, False])
def test_standard_output_is_written_into_in_order(tmp_path, piped):
    with open(tmp_path / "out", "w") as out:
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE if piped else out, text=True, check=True
        )
    text = result.stdout if piped else (tmp_path / "out").read_text()
    assert text.split() == ["before", "whole", "part", "after"] and names(tmp_path) == ["out"]


def _grow(path, texts, failure=None):
    with growing(path) as append:
        for text in texts:
            append(text)
        if failure:
            raise failure


def test_what_grows_is_on_disk_at_once_and_named_at_the_end(tmp_path):
    path, partial = tmp_path / "rows", tmp_path / "rows.partial"
    path.write_text("old")
    path.chmod(0o600)
    with growing(path) as append:
        assert names(tmp_path) == ["rows"]  # whoever is killed now leaves nothing
        append("one “ü”\n")
        assert partial.read_text() == "one “ü”\n" and path.read_text() == "old"
        append("two \udcff\n")
        assert len(partial.read_text().splitlines()) == 2
    assert path.read_text() == "one “ü”\ntwo \\udcff\n" and names(tmp_path) == ["rows"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    _grow(path, [])
    assert path.read_text() == "" and names(tmp_path) == ["rows"]


def test_what_a_failure_leaves_stays_beside_the_next(tmp_path):
    path = tmp_path / "rows"
    for failure in (KeyboardInterrupt(), KeyError()):
        with pytest.raises(type(failure)):
            _grow(path, ["one\n"], failure)
    with pytest.raises(UserError, match=r"^no more; what was written before is in .*rows\.partial-3$"):
        _grow(path, ["one\n"], UserError("no more"))
    with pytest.raises(UserError, match="^at once$"):
        _grow(path, [], UserError("at once"))
    _grow(path, ["whole\n"])
    assert names(tmp_path) == ["rows", "rows.partial", "rows.partial-2", "rows.partial-3"]
    assert path.read_text() == "whole\n"


def test_a_disk_that_fills_leaves_whole_lines(tmp_path, monkeypatch):
    """A write that fails halfway is taken back."""
    path, write = tmp_path / "rows", os.write

    def half(descriptor, data):
        if bytes(data).startswith(b"two"):
            return write(descriptor, data[:2])
        if bytes(data).startswith(b"one"):
            return write(descriptor, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", half)
    with pytest.raises(UserError, match=r"rows: the disk is full.*; what was written before is in .*rows\.partial"):
        _grow(path, ["one\n", "two\n"])
    assert names(tmp_path) == ["rows.partial"] and (tmp_path / "rows.partial").read_text() == "one\n"


def test_places_are_checked_before_work_and_left_alone(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, says in (
        (tmp_path, "this is a directory: give the path of a file"),
        ("", "this is a directory"),
        (tmp_path / "none" / "file", "its directory does not exist: make it first"),
        (file / "below", "cannot be written"),
        (tmp_path / ("x" * 300), "the name is too long"),
        (loop, "cannot be written"),
        ("/proc/none", "cannot be written"),
    ):
        for write in (check_writable, lambda path: write_text(path, "new"), lambda path: _grow(path, ["new"])):
            with pytest.raises(UserError, match=says) as error:
                write(path)
            assert "\n" not in str(error.value)
    check_writable(tmp_path / ("x" * 240))
    check_writable(file)
    assert names(tmp_path) == ["file", "loop"] and file.read_text() == "old"


# What a command or a configuration names -> who reads it, from a folder.
READERS = {
    "--text": lambda folder: read_text(folder / "pipe"),
    "--prompts": lambda folder: read_prompts(f"{folder}/pipe"),
    "text:": lambda folder: load_corpus(f"text:{folder}/p*"),
    "lines:": lambda folder: load_corpus(f"lines:{folder}/pipe"),
    "sentencepiece:": lambda folder: given_tokenizer(f"sentencepiece:{folder}/pipe", True),
    "wordpiece:": lambda folder: given_tokenizer(f"wordpiece:{folder}/pipe", True),
    "--source": lambda folder: prepare_lm1b(folder / "pipe", print),
    "semantics.table": lambda folder: read_table(folder / "pipe"),
    "data.directory": open_prepared,
    "config.json": read_config,
    "metrics.jsonl": last_step,
}


@pytest.mark.parametrize("given", READERS)
def test_what_may_have_no_end_is_not_read(tmp_path, monkeypatch, given):
    """Nor what hangs until somebody writes: a FIFO stands for devices, too, and for what a shell makes of <(…)."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    os.mkfifo(tmp_path / "pipe")
    for name in ("config.json", "metrics.jsonl", "meta.json"):
        (tmp_path / name).symlink_to("pipe")
    former = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(5)
    try:
        with pytest.raises(UserError, match=r" is a device or a pipe: write what it gives to a file, and give that"):
            READERS[given](tmp_path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    assert not (tmp_path / "tfds").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden here")
def test_a_file_that_is_read_only_stays(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o444)
    for write in (check_writable, lambda path: write_text(path, "new")):
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
            write(file)
    assert file.read_text() == "old"


def test_one_file_under_two_names(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    (tmp_path / "ahead").symlink_to("new")
    for first, second in (("a", "a"), ("a", "link"), ("link", "hard"), ("new", "./new"), ("ahead", "new")):
        assert same_file(tmp_path / first, f"{tmp_path}/{second}")
    assert not same_file(tmp_path / "a", tmp_path / "b") and not same_file("/dev/null", "/dev/null")
