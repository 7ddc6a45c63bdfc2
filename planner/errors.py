"""Everything infopt can say no with, and the exit code each no carries.

    InfoptError                     1   a bug or an unforeseen failure
    ├── UsageError                  2   the request itself is wrong
    │   ├── SpecError               2   a YAML or JSON file: knows file, line and key path
    │   ├── ModelError              2   the ONNX file: damaged, unsupported, hostile, unbound
    │   │   └── AbsentDataError     2   a file with its weights is not there
    │   └── DataError               2   calibration or evaluation data that does not fit the model
    ├── InfeasibleError             3   proved: no plan meets the limits
    ├── VerificationError           4   an engine or plan does not keep what it promised
    ├── EnvironmentMismatchError    5   this machine cannot run it (device, version, memory)
    │   └── EngineHungError         5   the GPU stopped answering: the process must start anew
    ├── NoPlanInTimeError           6   the time limit ended before any feasible plan was found
    └── RegressionError             7   worse than the CI baseline

`Interrupted` (130) is raised on Ctrl-C and SIGTERM; work measured so far is kept.

Each error holds data (what, where, fix) and builds its own text, so that every front end says the
same thing. Nothing below the command line prints.
"""

from __future__ import annotations


class InfoptError(Exception):
    """A refusal: `what` is wrong, `where` (file, line, key path or node name), nearest `fix`."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """One message: `where: what. fix`."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  fix: {self.fix}" if self.fix else head


class UsageError(InfoptError):
    """The request itself is wrong."""

    exit_code = 2


class SpecError(UsageError):
    """A YAML or JSON document that does not say what it must."""


class ModelError(UsageError):
    """The ONNX model is damaged, unsupported, hostile, or has unbound dimensions."""


class AbsentDataError(ModelError):
    """A file that the model keeps weights in is not where it should be."""


class DataError(UsageError):
    """Calibration or evaluation data that does not fit the model."""


class InfeasibleError(InfoptError):
    """Proved: no plan meets the limits."""

    exit_code = 3


class VerificationError(InfoptError):
    """An engine or plan does not keep what it promised."""

    exit_code = 4


class EnvironmentMismatchError(InfoptError):
    """This machine cannot run it: device, version or memory differ."""

    exit_code = 5


class EngineHungError(EnvironmentMismatchError):
    """The GPU stopped answering; what the process holds there is lost, a new process may work."""


class NoPlanInTimeError(InfoptError):
    """The time limit ended before any feasible plan was found."""

    exit_code = 6


class RegressionError(InfoptError):
    """Worse than the CI baseline allows."""

    exit_code = 7


class Interrupted(InfoptError):  # noqa: N818 - an interruption is no error of anybody
    """Ctrl-C or SIGTERM; what was measured so far is kept and a rerun continues."""

    exit_code = 130
