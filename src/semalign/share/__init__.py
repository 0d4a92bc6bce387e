"""Trained runs as files for other programs.  It does not depend on training or studies."""
