"""What looks on while a network trains: scikit-learn's callbacks, and a line of progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from gdl.training import Observer


class Report(Observer):
    """Tells callbacks and the progress line; ``attributes`` makes a fitted estimator of an epoch's end."""

    def __init__(self, estimator: Any = None, context: Any = None, **arguments: Any) -> None:
        self.estimator, self.context, self.arguments = estimator, context, arguments
        self.attributes: Callable[[int], dict[str, Any]] = lambda n_epochs: {}
        self.n_epochs = 0
