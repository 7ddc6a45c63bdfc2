"""`infopt deploy --to`: what another server needs, asked for and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.cli.console import tell
from planner.emit.targets import TARGETS, target_named

LOCAL = "local"
DIRECTORY = "directory"
_HERE = (LOCAL, DIRECTORY)
DESTINATIONS = (*_HERE, *(target.name for target in TARGETS))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the command line says about another server."""

    destination: str
    files: Path | None
    replicas: int | None
    storage_uri: str | None
    image: str | None

    def check(self, engine: Path) -> None:
        """Refuses what cannot be done before anything is built.

        Raises:
            UsageError: options that this destination does not have, or lacks; a folder that is
                somebody else's.
        """
        self._refuse_useless()
        if self.destination in _HERE:
            return
        from planner.emit.targets.base import Wishes
        from planner.emit.targets.package import refuse_foreign

        wishes = Wishes(self.replicas or 1, self.storage_uri, self.image)
        target_named(self.destination).check(wishes)
        refuse_foreign(self._folder(engine))

    def _refuse_useless(self) -> None:
        from planner.errors import UsageError

        elsewhere = tuple(target.name for target in TARGETS)
        uses = {
            "--files": (self.files, elsewhere),
            "--replicas": (self.replicas, elsewhere),
            "--storage-uri": (self.storage_uri, ("kserve",)),
            "--image": (self.image, ("kserve",)),
        }
        for option, (value, destinations) in uses.items():
            if value is not None and self.destination not in destinations:
                raise UsageError(
                    f"means nothing with --to {self.destination}",
                    where=option,
                    fix=f"add --to {destinations[0]}"
                    if len(destinations) == 1
                    else f"one of --to {', '.join(destinations)}",
                )

    def write(self, engine: Path) -> None:
        """Writes the files and says how to put them to use."""
        if self.destination in _HERE:
            return
        from planner import pipeline

        folder = self._folder(engine)
        made = pipeline.package(
            engine,
            self.destination,
            folder,
            replicas=self.replicas or 1,
            storage_uri=self.storage_uri,
            image=self.image,
        )
        for note in made.notes:
            tell(f"note: {note}")
        next_step = made.start.replace("{folder}", str(folder))  # names may hold other braces
        tell(f"wrote {folder}; next: {next_step}")

    def _folder(self, engine: Path) -> Path:
        return self.files or engine.with_name(f"{engine.name}-{self.destination}")
