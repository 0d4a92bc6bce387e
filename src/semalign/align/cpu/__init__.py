"""The alignment's fast kernels for CPUs, and the choice between forms.

`folded` and `feed_forward` compute what `semalign.align.fold` and plain modules compute, in fewer passes over memory;
`form_times` models how long each form takes.  `blocks` holds what the kernels share.
"""
