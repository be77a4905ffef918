"""`python -m keras_gru_ext` is the command `keras-gru-ext`."""

import sys

from keras_gru_ext.cli.main import main

sys.exit(main())
