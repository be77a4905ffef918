"""Random models that real old libraries wrote, loaded and compared.

`serialization_fixtures/generate/random_models` writes them. `python -m tests.legacy.fuzz FOLDER` loads every model in
a folder on the backend in use, goes on where it stopped, and reports. `python -m tests.legacy.fuzz.shrink MODEL
--python OLD_PYTHON` finds the smallest model that fails as MODEL does.
"""
