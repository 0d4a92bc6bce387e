"""Labelled images: built-in scenes and folders of the user's, behind one protocol.

Only NumPy and Pillow are imported here; turning samples into batches for torch is the business of other modules.
"""
