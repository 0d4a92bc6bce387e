"""Studies: which runs answer a question, and the running of them; judging is in `semalign.judge`."""
