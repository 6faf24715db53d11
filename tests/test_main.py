"""``python -m gdl`` and the facts of the machine that it reports."""

import re
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets

import gdl
from gdl import __main__ as command
from gdl import _environment

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the end of a line


@pytest.fixture
def few_digits(monkeypatch):
    """A job that even interpreted kernels do at once."""
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (X[:130], y[:130]))
    monkeypatch.setattr(command, "TEST_SIZE", 30)
    monkeypatch.setitem(command.SETTINGS, "hidden_layer_sizes", (4,))


def accuracies(text):
    return {
        name: float(value) for name, value in re.findall(r"^(gdl|scikit-learn) +([01]\.\d{4}) ", text, re.MULTILINE)
    }


def test_digits_say_what_they_run_on_and_compare(few_digits, capsys):
    assert command.main(["digits", "--epochs", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"gdl {gdl.__version__}, NumPy {np.__version__}, Numba ")
    assert "100 digits of 8 x 8 pixels to learn from, 30 to be tested on, 3 epochs" in out
    ours = accuracies(out)
    assert ours["gdl"] == ours["scikit-learn"]  # the same numbers in the same order
    assert out.count("\n") == len(out.splitlines())
    assert not CONTROL.search(out)
    assert not CONTROL.search(err)


def test_without_a_command_digits_are_read(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "read_digits", seen.append)
    assert command.main([]) == 0
    assert seen == [20]


def test_an_interrupt_ends_the_job_quietly(monkeypatch, capsys):
    def interrupt(epochs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_digits", interrupt)
    assert command.main([]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("epochs", ["0", "-1", "2.5", "many"])
def test_epochs_are_counted(epochs, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["digits", f"--epochs={epochs}"])
    assert f"argument --epochs: '{epochs}' must be a whole number of at least 1" in capsys.readouterr().err


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    out = capsys.readouterr().out
    assert "python -m gdl" in out
    assert re.search(r"^ +digits +learn", out, re.MULTILINE)
    assert re.search(r"^ +info +say", out, re.MULTILINE)


def test_info_prints_every_fact(capsys):
    assert command.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = _environment.environment()
    assert [line[:18].rstrip() for line in lines] == list(facts)
    assert [line[18:] for line in lines] == list(facts.values())
    assert all(facts.values())


def test_confusion_table():
    table = command.confusion_table(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    assert table.splitlines() == [
        "       0   1   2",
        "   0   1   .   .",
        "   1   .   1   1",
        "   2   .   .   1",
    ]


@pytest.mark.compiled
def test_the_whole_job_in_a_pipe():
    done = subprocess.run([sys.executable, "-m", "gdl"], capture_output=True, text=True, timeout=300, check=True)
    found = accuracies(done.stdout)
    assert min(found.values()) >= 0.97
    assert set(found) == {"gdl", "scikit-learn"}
    assert not CONTROL.search(done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_the_cpu_has_a_name():
    assert _environment.cpu_name()
    assert _environment.n_cores() >= 1


@pytest.mark.parametrize(("system", "expected"), [("darwin", "Apple M9"), ("win32", "Intel64 Family 6")])
def test_the_cpu_of_other_systems(monkeypatch, system, expected):
    monkeypatch.setattr(_environment.sys, "platform", system)
    monkeypatch.setattr(_environment, "_output", lambda *command: "Apple M9")
    monkeypatch.setattr(_environment.platform, "processor", lambda: "Intel64 Family 6")
    assert _environment.cpu_name() == expected


def test_cores_where_the_system_does_not_bind_processes(monkeypatch):
    monkeypatch.delattr(_environment.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(_environment.os, "cpu_count", lambda: None)
    assert _environment.n_cores() == 1


def test_a_file_that_cannot_be_read_says_nothing(tmp_path):
    assert _environment._field(tmp_path / "cpuinfo", "model name") == ""


def test_a_gpu_is_found_by_its_driver(tmp_path, monkeypatch):
    card = tmp_path / "0000:01:00.0"
    card.mkdir()
    (card / "information").write_text("Model: \t\t NVIDIA Toaster\nIRQ: 7\n")
    monkeypatch.setattr(_environment, "GPUS", tmp_path)
    assert _environment.nvidia_gpu() == "NVIDIA Toaster"


@pytest.mark.parametrize(("where", "expected"), [("/usr/bin/nvidia-smi", "NVIDIA Toaster"), (None, "")])
def test_a_gpu_is_found_by_its_tool(tmp_path, monkeypatch, where, expected):
    monkeypatch.setattr(_environment, "GPUS", tmp_path)
    monkeypatch.setattr(_environment.shutil, "which", lambda name: where)
    monkeypatch.setattr(_environment, "_output", lambda *command: "NVIDIA Toaster\nNVIDIA Kettle")
    assert _environment.nvidia_gpu() == expected


def test_a_command_that_fails_says_nothing():
    assert _environment._output(sys.executable, "-c", "print(' hello ')") == "hello"
    assert _environment._output(sys.executable, "-c", "print(1); raise SystemExit(1)") == ""
    assert _environment._output("no-such-command-here") == ""
