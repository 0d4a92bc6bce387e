"""Studies: which runs answer a question, and the running of them.  It knows nothing of judging."""
