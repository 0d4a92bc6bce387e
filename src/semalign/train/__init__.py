"""Training, scoring and saving of segmenters; it does not depend on studies and verdicts.

Called, the package trains: ``semalign.train(data, ...)`` is `semalign.api.train`.
"""

from semalign.rooms import make_callable

make_callable(__name__, "semalign.api", "train")
