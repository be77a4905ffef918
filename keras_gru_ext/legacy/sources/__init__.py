"""From the bytes of a container to a `LegacyModel` record.

In comes a path that nobody vouches for, out goes the record: the config as written, the arrays as written, who wrote
them. `containers.py` tells the kinds apart. Nothing here knows what a config means, imports Keras or any other floor
of `legacy` but `record` and `dialect`, or a framework. h5py runs in a process of its own, `hdf5_child.py`; the files of
TensorFlow's checkpoints are read by `bundle.py`.
"""
