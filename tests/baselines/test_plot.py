"""Tests of the command: the files it writes, what it prints and what it refuses."""

import re

import pytest
from PIL import Image

from tests.mishaps import fill_disk
from tests.testing import client

client("matplotlib")

from popgym_arcade.baselines import plot  # noqa: E402, because matplotlib may be missing
from tests.baselines.logs import evaluation, training, write_run  # noqa: E402


def complaint(capsys, *arguments):
    """What the command says when it refuses its arguments."""
    with pytest.raises(SystemExit) as stopped:
        plot.main(list(map(str, arguments)))
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_the_command_writes_a_png_and_a_pdf_that_are_valid_and_the_same_every_time(
    tmp_path, capsys, monkeypatch
):
    run = write_run(tmp_path / "run", [evaluation(10, [0.1, 0.5]), evaluation(20, [0.5, 0.9])])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    plot.main([str(run), "--title", "A title"])
    plot.main([str(run), "--title", "A title", "--out", "again.png"])
    assert "wrote learning-curves.png and learning-curves.pdf" in capsys.readouterr().out
    with Image.open("learning-curves.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000 and len(image.getcolors(1 << 20)) > 20
    pdf = (tmp_path / "learning-curves.pdf").read_bytes()
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[1])
    assert pdf.startswith(b"%PDF-") and pdf[start:].startswith(b"xref")
    assert pdf == (tmp_path / "again.pdf").read_bytes() and b"CreationDate" not in pdf
    assert (tmp_path / "learning-curves.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_same_folder_twice_counts_once(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    plot.main([str(run), f"{run}/", "--out", str(tmp_path / "figure")])
    assert "| 1 " in capsys.readouterr().out


def test_without_evaluations_there_is_a_figure_of_training_but_no_table(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), training(20, 0.2)])
    plot.main([str(run), "--metric", "training-return", "--out", str(tmp_path / "figure")])
    output = capsys.readouterr()
    assert "|" not in output.out and (tmp_path / "figure.png").exists()
    assert "no table: there are no evaluations yet" in output.err


def test_a_figure_in_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    assert f"there is no folder {str(tmp_path / 'no')!r} for 'figure.png'" in complaint(
        capsys, run, "--out", tmp_path / "no/figure.pdf"
    )


def test_a_figure_is_overwritten_only_by_force(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    command = [str(run), "--out", str(tmp_path / "figure")]
    for name in ("figure.png", "figure.pdf"):
        (tmp_path / name).write_text("mine")
        told = complaint(capsys, *command)
        assert f"would overwrite {tmp_path / name} with other content" in told and "--force" in told
        assert sorted(path.name for path in tmp_path.iterdir()) == [name, "run"]
        (tmp_path / name).unlink()
    plot.main(command)
    plot.main(command)  # the same figure is no other content
    plot.main([*command, "--force", "--title", "Another"])


@pytest.mark.parametrize("name", ["figure.png", "figure.pdf"])
def test_a_full_disk_ends_the_command_with_one_line_and_leaves_nothing(
    name, tmp_path, capsys, monkeypatch
):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    fill_disk(monkeypatch, name)
    with pytest.raises(SystemExit) as stopped:
        plot.main([str(run), "--out", str(tmp_path / "figure")])
    assert capsys.readouterr().err.splitlines() == [
        "drawing 1 curves of 1 runs ...",
        f"popgym-arcade-plot: error: {tmp_path / name}: No space left on device",
    ]
    assert stopped.value.code == 1 and list(tmp_path.iterdir()) == [run]


def test_a_window_that_makes_no_sense_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), evaluation(10, [0.5])])
    assert "must be in [0, 1000000000000], but it is -5.0; the nearest is 0" in complaint(
        capsys, run, "--smooth=-5"
    )
    assert "the window must be 0 for returns, but it is 5.0" in complaint(
        capsys, run, "--smooth", 5
    )


def test_what_a_run_or_an_option_lacks_ends_the_command_with_its_message(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    assert "is not a run: it has no config.json" in complaint(capsys, tmp_path / "nowhere")
    assert "there is no metric 'los'" in complaint(capsys, run, "--metric", "los")
    assert "there is no config field 'sed'" in complaint(capsys, run, "--ignore", "sed")


def test_below_a_figure_of_something_else_is_the_table_of_returns(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), evaluation(10, [0.25, 0.25])])
    plot.main([str(run), "--metric", "loss", "--out", str(tmp_path / "figure")])
    assert "| 0.250 [0.250, 0.250] " in capsys.readouterr().out
