"""The segmenter and its parts; it knows nothing of data sets, training or files."""
