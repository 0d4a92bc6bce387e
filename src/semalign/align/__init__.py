"""The mathematics of vision-text alignment: tensors in, tensors out.

Temperature, attention, gate and diagnostics as free functions, and the check of their settings.  Importing this
package, or ``knobs``, does not import torch; the other modules do.
"""

__all__ = ["attention", "diagnostics", "gate", "knobs", "temperature"]
