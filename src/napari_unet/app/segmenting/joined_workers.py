"""Workers of a scheduler that somebody else has started."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.segmenting.crew import PATIENCE_SECONDS, Crew, wanted_patience
from napari_unet.app.segmenting.work_entry import forget_run
from napari_unet.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.job import SegmentJob

CONNECT_SECONDS = 20.0
"""How long a scheduler may take to answer."""


class JoinedCrew(Crew):
    """Workers of a scheduler that serves others, too."""

    shared = True
    address = ""

    def absence(self) -> str:
        """Return what is said when there is no worker for too long: why, and what to do."""
        return (
            f"no worker was at {self.address} for {self.patience:.0f} s; start some with "
            f"dask worker {self.address}, then run the same command again"
        )

    def lost(self) -> str:
        """Return what is said when the scheduler is gone."""
        return f"the scheduler at {self.address} has ended; run the same command when it is back"


@contextmanager
def joined_workers(job: SegmentJob, token: str) -> Iterator[JoinedCrew]:
    """Connect to the scheduler that a job names, and leave it afterwards.

    Parameters
    ----------
    job : SegmentJob
        Address and certificates.
    token : str
        Of the work orders; what workers keep for them is released in the end.

    Raises
    ------
    ConfigError
        If there are no certificates for it.
    BackendError
        If it does not answer.
    """
    address = job.scheduler or ""
    with _quiet(), _connected(address, certificates(job)) as client:
        crew = JoinedCrew(client, wanted_patience(PATIENCE_SECONDS))
        crew.address = address
        try:
            yield crew
        finally:
            # They live on without this run; if they do not answer, they keep it to their end.
            if client.status == "running":
                with suppress(OSError, RuntimeError, ValueError):
                    client.run(forget_run, token)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let dask say nothing of connections that fail: that is said here."""
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _connected(address: str, security: Any) -> Any:
    """Return a client of a scheduler.

    Raises
    ------
    BackendError
        If it does not answer.
    """
    import distributed

    library: Any = distributed
    try:
        return library.Client(
            address, security=security, set_as_default=False, timeout=CONNECT_SECONDS
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        cause = str(error) or type(error).__name__
        raise BackendError(
            f"{address}: no scheduler can be reached there ({cause}); start one with dask "
            "scheduler, and give it certificates of the same authority"
        ) from error


def certificates(job: SegmentJob) -> Any:
    """Return the certificates for a scheduler: those of the job, else those of dask's settings.

    Raises
    ------
    ConfigError
        If there are none, or one of the files is missing.
    """
    import distributed

    library: Any = distributed
    if job.tls_ca is not None:
        security = library.Security(
            require_encryption=True,
            tls_ca_file=_expanded(job.tls_ca),
            tls_client_cert=_expanded(job.tls_cert),
            tls_client_key=_expanded(job.tls_key),
        )
    else:
        security = library.Security()
    if not (job.scheduler or "").startswith("tls://"):
        return security
    files = security.get_tls_config_for_role("client")
    if not (files["ca_file"] and files["cert"]):
        raise ConfigError(
            f"{job.scheduler} needs certificates: give --tls-ca, --tls-cert and --tls-key, or set "
            "distributed.comm.tls in dask's configuration"
        )
    for path in (files["ca_file"], files["cert"], files["key"]):
        # One that is in memory has lines.
        if path and "\n" not in path and not Path(path).is_file():
            raise ConfigError(f"{path}: there is no such file with a certificate or key")
    return security


def _expanded(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())
