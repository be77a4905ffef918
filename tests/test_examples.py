"""Every example runs and prints what it promises."""

import pathlib
import re
import runpy

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def test_convert_legacy_model(capsys):
    runpy.run_path(str(EXAMPLES / "convert_legacy_model.py"), run_name="__main__")
    right, stock, again = (float(number) for number in re.findall(r"\d\.\de[+-]\d+", capsys.readouterr().out))
    assert right < 1e-5
    assert again == right
    assert stock > 1e-2
