"""``python -m gdl`` and the facts of the machine that it reports."""

import re
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets

import gdl
from gdl import __main__ as command
from gdl import _digits, _environment

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the end of a line


# How digits to be labelled are chosen.
CHOSEN = (r"\d+ digits at random", r"the digits nearest to the centers of \d+ clusters", r"the same, .* clusters")


@pytest.fixture
def few_digits(monkeypatch):
    """A job that even interpreted kernels do at once."""
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (X[:130], y[:130]))
    monkeypatch.setattr(_digits, "TEST_SIZE", 30)
    monkeypatch.setitem(_digits.NETWORK, "hidden_layer_sizes", (4,))
    monkeypatch.setitem(_digits.CLUSTERING, "n_init", 2)
    monkeypatch.setattr(_digits, "N_LABELS", 12)
    monkeypatch.setattr(_digits, "N_DRAWS", 2)
    monkeypatch.setitem(_digits.FEW_LABELS, "hidden_layer_sizes", (4,))
    monkeypatch.setitem(_digits.FEW_LABELS, "max_iter", 2)
    monkeypatch.setitem(_digits.FEW_LABELS, "batch_size", 10)


def numbers(text, line, n_numbers):
    """The numbers at the end of each line that begins like this."""
    number = r" +(-?[\d,]+\.?\d*)"
    found = re.findall(rf"^{line}{number * n_numbers}$", text, re.MULTILINE)
    return [[float(value.replace(",", "")) for value in values] for values in found]


def test_digits_say_what_they_run_on_and_compare(few_digits, capsys):
    assert command.main(["digits", "--epochs", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"gdl {gdl.__version__}, NumPy {np.__version__}, Numba ")
    assert "100 digits of 8 x 8 pixels to learn from, 30 to be tested on, 3 epochs" in out
    # The same numbers in the same order: accuracy and loss of the networks, inertia and Rand index of the clusters.
    for n_numbers in (4, 3):
        [ours], [theirs] = (numbers(out, name, n_numbers) for name in ("gdl", "scikit-learn"))
        assert ours[:2] == theirs[:2]
    assert (
        "The 100 digits again, without their labels: sorted into 10 clusters of similar pictures, the best of 2" in out
    )
    assert out.count("\n") == len(out.splitlines())
    assert max(map(len, out.splitlines())) <= 120
    assert not CONTROL.search(out)
    assert not CONTROL.search(err)


def test_few_labels_are_compared(few_digits, capsys):
    digits = _digits.load()
    _digits.learn_from_few_labels(digits)
    out = capsys.readouterr().out
    assert "there is time to label 12 of the 100 digits by hand" in out
    draws = np.array([_digits.accuracies_with_few_labels(digits, random_state) for random_state in (0, 1)])
    for line, accuracies in zip(CHOSEN, draws.T, strict=False):
        [printed] = numbers(out, line, 3)
        assert printed == pytest.approx([accuracies.mean(), accuracies.min(), accuracies.max()], abs=5e-5)
    assert f"Of the labels given to whole clusters, {draws[:, 3].mean():.1%} are right." in out


def test_labels_are_those_of_the_digits_nearest_to_the_centers(few_digits, monkeypatch):
    """Distances and labels by loops; what the network is given is written down."""
    monkeypatch.setattr(_digits, "N_LABELS", 40)
    digits = _digits.load()
    fits, clusterings, plain_fit = [], [], _digits.fit

    def fit(model, X, y=None):
        fits.append((X, y))
        return plain_fit(model, X, y)

    class Clusters(gdl.KMeans):
        def fit(self, X, y=None, sample_weight=None):
            clusterings.append(self)
            return super().fit(X)

    monkeypatch.setattr(_digits, "fit", fit)
    monkeypatch.setattr(gdl, "KMeans", Clusters)
    *_, right = _digits.accuracies_with_few_labels(digits, 3)
    [clusters], (at_random, at_centers, spread) = clusterings, fits
    assert len(at_random[0]) == len(np.unique(at_random[0], axis=0)) == 40
    labels = []
    for center in clusters.cluster_centers_:
        nearest = min(range(100), key=lambda i: ((digits.X_train[i] - center) ** 2).sum())
        labels.append(digits.y_train[nearest])
    assert at_centers[1].tolist() == labels
    assert spread[0] is digits.X_train
    assert spread[1].tolist() == [labels[cluster] for cluster in clusters.labels_]
    assert right == np.mean([given == true for given, true in zip(spread[1], digits.y_train, strict=True)])


@pytest.mark.parametrize(("arguments", "epochs"), [([], 20), (["digits"], 20), (["digits", "--epochs=7"], 7)])
def test_without_a_command_digits_are_read(monkeypatch, arguments, epochs):
    seen = []
    monkeypatch.setattr(_digits, "read_digits", seen.append)
    assert command.main(arguments) == 0
    assert seen == [epochs]


def test_an_interrupt_ends_the_job_quietly(monkeypatch, capsys):
    def interrupt(epochs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_digits, "read_digits", interrupt)
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
    table = _digits.confusion_table(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    assert table.splitlines() == [
        "       0   1   2",
        "   0   1   .   .",
        "   1   .   1   1",
        "   2   .   .   1",
    ]


@pytest.mark.compiled
def test_the_whole_job_in_a_pipe():
    done = subprocess.run([sys.executable, "-m", "gdl"], capture_output=True, text=True, timeout=300, check=True)
    for name in ("gdl", "scikit-learn"):
        [[accuracy, *_]] = numbers(done.stdout, name, 4)
        assert accuracy >= 0.97
        [[inertia, agreement, _]] = numbers(done.stdout, name, 3)
        assert inertia < 3620
        assert agreement > 0.6
    at_random, at_centers, spread = (numbers(done.stdout, line, 3)[0][0] for line in CHOSEN)
    assert at_random < at_centers < spread
    assert spread > 0.9
    assert not CONTROL.search(done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("jit", "kernels", "cores", "expected"),
    [(True, 0, 2, 1), (True, 1, 2, 0), (True, 0, 1, 0), (False, 0, 2, 0)],
    ids=["nothing on disk", "kernels on disk", "one core", "interpreted"],
)
def test_another_process_compiles_for_the_clusters(few_digits, monkeypatch, tmp_path, jit, kernels, cores, expected):
    started = []

    class Process:
        def __init__(self, command, **streams):
            started.append(command)

        def wait(self):
            started.append("waited for")

    monkeypatch.setattr(_digits.subprocess, "Popen", Process)
    monkeypatch.setattr(_digits.config, "DISABLE_JIT", not jit)
    monkeypatch.setattr(_digits._cache, "directory", lambda: tmp_path)
    monkeypatch.setattr(_digits, "n_cores", lambda: cores)
    monkeypatch.setattr(_digits, "fit", lambda *model_and_data: 0.0)
    for number in range(kernels):
        (tmp_path / f"{number}.kernel").touch()
    assert _digits.compile_kernels(_digits.load()) >= 0
    assert len(started) == 2 * expected
    if started:
        (python, _, code), waited = started
        assert (python, waited) == (sys.executable, "waited for")
        exec(code)  # what the other process does


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
