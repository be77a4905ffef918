"""The command line: what it prints, where, and with which exit code."""

import json
import shutil
import subprocess
import sys

import keras
import pytest

from keras_gru_ext.cli import main as cli
from tests.legacy.test_fixtures import ROOT, named
from tests.legacy.test_parts import ROOT as PARTS

pytestmark = pytest.mark.in_turn(always=True)

FIXTURE = named("keras-2.2.4-tensorflow", "bidirectional_masked_sequences")
REFERENCE = FIXTURE.model.replace(".h5", ".npz")


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_convert_says_what_it_found_and_that_the_numbers_agree(run, tmp_path):
    target = tmp_path / "new.keras"
    code, out, err = run("convert", FIXTURE.model, target, "--against", REFERENCE)
    assert (code, err) == (0, "")
    assert "a Sequential model, written by keras 2.2.4 on tensorflow" in out
    assert "hard_sigmoid (0.2 x + 0.5)" in out
    assert "repeats outputs at masked steps" in out
    assert f"{target}: written, read again: same weights, same predictions" in out
    assert f"the predictions agree with {REFERENCE} within " in out


def test_convert_does_not_replace(run, tmp_path):
    target = tmp_path / "new.keras"
    target.write_text("precious")
    code, _, err = run("convert", FIXTURE.model, target)
    assert code == cli.FAILED
    assert err.startswith(f"error: {target} exists.")
    assert target.read_text() == "precious"
    assert run("convert", FIXTURE.model, target, "--force")[0] == cli.DONE


def test_convert_part_of_a_model(run, tmp_path):
    code, out, _ = run("convert", FIXTURE.model, tmp_path / "new.keras", "--outputs", "embedding_1")
    assert code == cli.DONE
    assert "same predictions" in out


def test_into_a_folder_that_does_not_exist(run, tmp_path):
    code, _, err = run("convert", FIXTURE.model, tmp_path / "none" / "new.keras")
    assert code == cli.FAILED
    assert err.startswith("error: ")


def test_what_is_asked_for_is_checked_before_anything_is_said(run, tmp_path):
    code, out, err = run("convert", tmp_path / "none", tmp_path / "new")
    assert (code, out, err) == (cli.FAILED, "", f"error: {tmp_path / 'none'}: no such file or folder.\n")
    code, out, err = run("convert", FIXTURE.model, tmp_path / "new.keras", "--backends", "torch,nonsense")
    assert (code, out) == (cli.FAILED, "")
    assert err.startswith("error: Unknown backends ['nonsense']. Expected some of [")


def test_verify(run):
    code, out, err = run("verify", FIXTURE.model, "--against", REFERENCE)
    assert (code, err) == (0, "")
    assert "the predictions agree" in out


def test_verify_says_when_numbers_differ(run):
    other = named("tf.keras-2.4.4", "bidirectional_masked_sequences").model
    code, out, err = run("verify", other, "--against", REFERENCE)
    assert (code, out) == (cli.NUMBERS_DIFFER, "")
    assert err.startswith(f"error: {REFERENCE}: output 0 differs by ")


def test_inspect_lists_the_layers(run):
    code, out, _ = run("inspect", named("keras-2.2.4-tensorflow", "nested_and_frozen").model)
    assert code == cli.DONE
    for text in ("    gru_2", "frozen", "BatchNormalization", "227", "reset before the product", "inner > gru_1"):
        assert text in out


def test_inspect_as_json(run):
    code, out, _ = run("inspect", FIXTURE.model, "--json")
    found = json.loads(out)
    assert code == cli.DONE
    assert (found["producer"], found["version"], found["backend"]) == ("keras", "2.2.4", "tensorflow")
    assert [row["class"] for row in found["layers"]] == ["InputLayer", "Embedding", "Bidirectional", "GRU"]
    assert found["layers"][2]["parameters"] == 2 * 15 * (4 + 5 + 1)


def test_inspect_says_what_keras_3_alone_would_do(run):
    code, out, _ = run("inspect", FIXTURE.model)
    assert code == cli.DONE
    assert "silently computes something else: off by 0." in out
    assert "Keras 3 alone: fails: TypeError: Could not locate class 'GRU'" in out
    assert "?x7x10" in out


def test_convert_many(run, tmp_path):
    source, target = tmp_path / "old", tmp_path / "new"
    (source / "deeper").mkdir(parents=True)
    shutil.copy(named("keras-2.2.4-tensorflow", "single").model, source / "deeper" / "good.h5")
    shutil.copy(named("keras-2.2.4-tensorflow", "locally_connected").model, source / "local.h5")
    (source / "bad.h5").write_bytes(b"none")
    (source / "notes.txt").write_text("not a model")
    code, out, err = run("convert", source, target, "--stock")
    assert (code, err) == (cli.FAILED, "")
    written = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert written == ["deeper/good.keras", "local.keras"]
    assert "2 of 3 converted" in out
    assert "not a readable HDF5 file" in out
    assert run("convert", source / "*.h5", target, "--to", ".weights.h5")[0] == cli.FAILED
    assert (target / "local.weights.h5").exists()
    assert run("convert", source / "deeper", target / "again")[0] == cli.DONE


def test_folders_that_are_models_are_found_among_many(run, tmp_path):
    source, target = tmp_path / "old", tmp_path / "new"
    shutil.copytree(ROOT / "containers" / "tensorflow.js-4.22.0" / "single", source / "deeper" / "js.v1")
    shutil.copytree(ROOT / "containers" / "tf.keras-2.4.4" / "rnn_of_cell" / "saved_model", source / "saved")
    assert run("convert", source, target)[0] == cli.DONE
    written = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert written == ["deeper/js.v1.keras", "saved.keras"]


def test_convert_to_onnx(run, tmp_path):
    pytest.importorskip("onnxruntime")
    code, out, err = run("convert", FIXTURE.model, tmp_path / "one.onnx", "--against", REFERENCE)
    assert (code, err) == (cli.DONE, "")
    assert "one.onnx: written, run by ONNX Runtime, same predictions" in out
    assert "the predictions agree with" in out
    shutil.copy(named("keras-2.2.4-tensorflow", "single").model, tmp_path / "two.h5")
    assert run("convert", tmp_path / "*.h5", tmp_path / "new", "--to", ".onnx")[0] == cli.DONE
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["two.onnx"]
    assert run("convert", tmp_path / "two.h5", tmp_path / "one.onnx")[0] == cli.FAILED


def test_the_exit_code_of_many_tells_of_numbers(run, tmp_path):
    other = named("keras-2.2.4-tensorflow", "bidirectional_masked_sequences").model
    shutil.copy(other, tmp_path / "one.h5")
    wrong = named("tf.keras-2.4.4", "bidirectional_masked_sequences").model.replace(".h5", ".npz")
    assert run("convert", tmp_path / "*.h5", tmp_path / "new", "--against", wrong)[0] == cli.NUMBERS_DIFFER
    assert not (tmp_path / "new" / "one.keras").exists()


def test_several_files_need_a_folder(run, tmp_path):
    code, _, err = run("convert", FIXTURE.model, FIXTURE.model, tmp_path / "new.keras")
    assert (code, "Give a folder" in err) == (cli.USAGE, True)
    code, _, err = run("convert", FIXTURE.model, FIXTURE.model, tmp_path)
    assert (code, "would be written to" in err) == (cli.USAGE, True)
    assert run("convert", tmp_path, tmp_path / "new")[0] == cli.USAGE


@pytest.mark.full
@pytest.mark.skipif(keras.backend.backend() == "numpy", reason="NumPy is none of the backends to compare")
def test_convert_compares_backends(run, tmp_path):
    backend = keras.backend.backend()
    code, out, _ = run("convert", FIXTURE.model, tmp_path / "new.keras", "--backends", backend)
    assert code == cli.DONE
    assert "largest difference" in out
    assert out.splitlines()[-2].split()[0] == backend


def test_a_bad_file_is_one_line_and_debug_says_more(run, tmp_path):
    path = tmp_path / "bad.h5"
    path.write_text("not a model")
    code, out, err = run("inspect", path)
    assert (code, out, err.count("\n")) == (cli.FAILED, "", 1)
    assert err.startswith(f"error: {path}: not a readable HDF5 file")
    assert "Traceback" in run("inspect", path, "--debug")[2]


@pytest.mark.parametrize("arguments", [[], ["convert"], ["convert", "a.h5"], ["verify", "a.h5"], ["destroy"]])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "keras_gru_ext", "--help"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "exit codes:" in done.stdout


def part(name, case="autoencoder_without_shape"):
    return PARTS / "keras-2.2.4" / case / name


def test_convert_says_the_shape_of_an_input_that_the_file_leaves_out(run, tmp_path):
    folder = PARTS.parent / "random_models" / "keras-2.2.4" / "input_layer_left_out_before_a_reshape"
    words = ["convert", folder / "model.h5", tmp_path / "new.keras", "--against", folder / "reference.npz"]
    code, _, err = run(*words)
    assert code == cli.FAILED
    assert "batch_shape=" in err
    first = json.loads((folder / "plan.json").read_text())["model"]["first"]
    shape = first.get("batch_input_shape") or [-1, *first["input_shape"]]
    code, out, _ = run(*words, f"--batch-shape={'x'.join(map(str, shape))}")
    assert code == cli.DONE
    assert "the predictions agree" in out


def test_convert_what_lies_behind_a_layer(run, tmp_path):
    code, out, err = run(
        "convert", part("model.h5"), tmp_path / "new.keras", "--inputs", "sampling", "--against", part("tail.npz")
    )
    assert (code, err) == (cli.DONE, "")
    assert "the predictions agree" in out
    states = part("model.h5", "states_and_sequences")
    words = ["--inputs", "shared=-1x4", "--outputs", "sum", "--against", part("sum.npz", "states_and_sequences")]
    assert run("verify", states, *words)[0] == cli.DONE
    with pytest.raises(SystemExit):
        run("verify", states, "--inputs", "shared=wide", "--against", part("sum.npz"))


def test_convert_what_comes_before_code(run, tmp_path):
    loss = part("model.h5", "loss_over_time")
    code, _, err = run("convert", loss, tmp_path / "new.onnx", "--outputs", "auto")
    assert code == cli.DONE
    assert "note: " in err
    assert "outputs=['predicted']" in err


def test_inspect_says_what_to_type_for_the_parts(run):
    out = run("inspect", part("model.h5"))[1]
    assert "can load: --outputs z_mean,z_log_var\n" in out
    assert "can load: --inputs sampling --outputs decoded\n" in out
    out = run("inspect", part("model.h5", "autoencoder_of_models"))[1]
    assert "can load: --inputs encoder --outputs decoder\n" in out
    assert "can load: --outputs encoder/z_mean,encoder/z_log_var\n" in out
