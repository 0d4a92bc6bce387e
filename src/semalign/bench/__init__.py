"""Measurements of speed and memory: ours against a plain, well written form, in one run on one machine.

Each module measures one thing and returns plain numbers; the command line prints them.  Nothing here is a test: tests
count operations and bytes, they never time.
"""

__all__ = ["alignment", "counting", "infer", "machine", "models", "step", "study", "tables", "timing"]
