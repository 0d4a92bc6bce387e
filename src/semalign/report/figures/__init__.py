"""Figures of a report: what is drawn as plain data (`shapes`), and the drawing (`draw`)."""
