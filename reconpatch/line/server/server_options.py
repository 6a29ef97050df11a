"""What a server is told when it starts: where it listens, what it keeps, what it refuses."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from reconpatch.errors import SettingsError
from reconpatch.settings import DataSettings, IngestSettings

API_KEY = "RECONPATCH_API_KEY"
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class Limits:
    """What a request may ask for and what a connection may hold up; more is refused with a 4xx status or 503.

    Attributes:
        request_bytes: of the images of a request, sent or named by path.
        image_pixels: of one image, read from its header before it is decoded.
        images: in one request.
        seconds: from a request's whole head to the start of its answer.
        head_seconds: from a connection, or a request's first byte, to its whole head.
        unread_seconds: from an answer's bytes to the client that takes them; then the connection is cut.
        total_bytes: of all requests under way; what goes beyond is answered 503 and to come again.
        connections: at the same time; a further one is answered 503 and closed.
        address_connections: those of one address, of an IPv6 network of 64 bits; 0: no limit. Loopback has
            none: behind it may be a proxy, and with it everybody.
        waiting: images that may wait for the detector; beyond it the answer is 503 and to come again.
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
        """Refuse limits that do not fit each other.

        Raises:
            SettingsError: all requests together may have fewer bytes than each of them.
        """
        if self.total_bytes < self.request_bytes:
            raise SettingsError(
                f"all requests together may have {self.total_bytes >> 20} MiB and each of them "
                f"{self.request_bytes >> 20}: raise --max-total-mib or lower --max-mib"
            )


@dataclass(frozen=True)
class ServerOptions:
    """Everything but the models.

    Attributes:
        host: address listened on; anything but a loopback address needs an API key.
        port: 0 takes a free one.
        api_key: what requests must carry; None asks for none.
        allowed_root: folder that images may be named in by path; None: paths are refused.
        reviews: the review table that people's reviews are appended to, by default the one that ingest reads.
        log: folder of the prediction log; None: predictions are not logged.
        recent: images that are kept in memory to be looked at and judged.
        batch: most images that the detector is given at once.
        follow_seconds: how often the models' sources are asked for another version.
        device: as for `ReConPatch.load`.
        threads: likewise.
        limits: of each request.
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
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what would leave the server open or useless.

        Raises:
            SettingsError: no or too short a key on an address that others reach, or no such root.
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
