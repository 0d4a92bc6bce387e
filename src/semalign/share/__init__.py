"""Trained runs as files for other programs.  It knows nothing of training and studies."""
