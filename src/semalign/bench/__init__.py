"""Measurements of speed and memory: ours against a plain, well written form, in one run on one machine.

Each module in `BENCHES` measures one thing and returns plain numbers; the command line prints them.  Nothing here is a
test: tests count operations and bytes, they never time.
"""

from typing import Final

__all__ = ["BENCHES"]

BENCHES: Final = {
    "alignment": "the alignment against a lean unfolded form and against its own two products",
    "step": "what text guidance adds to a training step, and what our loop adds to a bare one",
    "infer": "what text guidance adds to a forward without gradients",
    "study": "runs an hour, by number of processes and threads of each",
}
"""What is measured, by the name of the module and of the command `semalign bench NAME`."""
