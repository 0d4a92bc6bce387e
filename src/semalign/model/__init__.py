"""The segmenter and its parts; it does not depend on data sets, training or files."""
