"""What looks at models from outside: knobs that cannot turn, and counterfactual texts.

Called as a function, this package is `semalign.audit.liveness.audit`.
"""

from semalign.rooms import make_callable

make_callable(__name__, "semalign.audit.liveness", "audit")
