"""The check of a data set.

Every file is read once (`scan`), what several rules need is gathered (`evidence`), faults are found by one function
each (`rules`, whose table is in `findings`), and what leaves no doubt is mended in a copy (`repair`).
"""
