"""What the studies' tests use."""

from tests.study.conftest import in_this_process

__all__ = ["in_this_process"]
