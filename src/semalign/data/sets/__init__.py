"""Known data sets as people have them on disk, and how they become a folder in this package's layout.

Each module beside this one holds the layout and the rules of one data set; `semalign.data.sets.writing` makes the
folder.  It does not depend on models and torch.
"""

from __future__ import annotations

from semalign.data.sets.importing import NAMES, Imported, import_data

__all__ = ["NAMES", "Imported", "import_data"]
