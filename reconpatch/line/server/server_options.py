"""The options that a server starts with: where it listens, what it keeps, what it refuses."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from reconpatch.errors import SettingsError
from reconpatch.settings import DataSettings, IngestSettings

API_KEY = "RECONPATCH_API_KEY"
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class ServerLimits:
    """Limits on requests and connections; what exceeds them is refused with a 4xx status or 503.

    Attributes:
        request_bytes: of all images of a request, uploaded or named by path.
        image_pixels: of one image, read from its header before it is decoded.
        images: in one request.
        seconds: from the end of a request's headers to the start of its answer.
        head_seconds: from the connection, or from a request's first byte, to the end of its headers.
        unread_seconds: how long a client may leave written bytes unread; then the connection is cut.
        total_bytes: of all requests in progress; more is answered 503 with Retry-After.
        connections: open at the same time; a further connection is answered 503 and closed.
        address_connections: open from one address, or one IPv6 network of 64 bits; 0: no limit. Loopback has
            no limit, because a proxy may connect from there for everybody.
        waiting: images that may wait for the detector; more are answered 503 with Retry-After.
        decode_seconds: processor seconds that one image may take to decode.
    """

    request_bytes: int = 64 << 20
    image_pixels: int = 50_000_000
    images: int = 64
    seconds: float = 60.0
    head_seconds: float = 10.0
    unread_seconds: float = 30.0
    total_bytes: int = 512 << 20
    connections: int = 256
    address_connections: int = 64
    waiting: int = 512
    decode_seconds: float = DataSettings().decode_seconds

    def __post_init__(self) -> None:
        """Refuse limits that contradict each other.

        Raises:
            SettingsError: ``total_bytes`` is below ``request_bytes``.
        """
        if self.total_bytes < self.request_bytes:
            raise SettingsError(
                f"all requests together may have {self.total_bytes >> 20} MiB and each of them "
                f"{self.request_bytes >> 20}: raise --max-total-mib or lower --max-mib"
            )


@dataclass(frozen=True)
class ServerOptions:
    """All options but the models.

    Attributes:
        host: address listened on; anything but a loopback address needs an API key.
        port: 0 takes a free one.
        api_key: the key that requests must carry; None: none is needed.
        allowed_root: folder that images may be named in by path; None: paths are refused.
        reviews: the review table that people's reviews are appended to, by default the one that ingest reads.
        log: folder of the prediction log; None: predictions are not logged.
        recent: number of scored images kept in memory for review.
        batch: largest number of images in a batch for the detector.
        follow_seconds: interval between checks for a new version of a model.
        device: as for `ReConPatch.load`.
        threads: as for `ReConPatch.load`.
        limits: of requests and connections.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    allowed_root: Path | None = None
    reviews: Path = IngestSettings().reviews
    log: Path | None = None
    recent: int = 100
    batch: int = 16
    follow_seconds: float = 2.0
    device: str = "auto"
    threads: int = 0
    limits: ServerLimits = field(default_factory=ServerLimits)

    def __post_init__(self) -> None:
        """Refuse options that would leave the server open to others without a key, or useless.

        Raises:
            SettingsError: the address is reachable from other machines and there is no key, the key is too
                short, or the allowed root is no folder.
        """
        if self.api_key is not None and len(self.api_key) < _SHORTEST_KEY:
            raise SettingsError(
                f"{API_KEY} has {len(self.api_key)} characters: give at least {_SHORTEST_KEY}, "
                "such as `openssl rand -hex 16` prints"
            )
        if self.api_key is None and not self.on_loopback:
            raise SettingsError(
                f"--host {self.host} can be reached from other machines: set {API_KEY} to a secret, "
                "or listen on 127.0.0.1"
            )
        if self.allowed_root is not None and not self.allowed_root.is_dir():
            raise SettingsError(f"--allow-root {self.allowed_root}: is no folder")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
