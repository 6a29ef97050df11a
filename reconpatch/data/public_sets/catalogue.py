"""The public data sets that `reconpatch data get` knows: address, hash of the archive, and licence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicSet:
    """A data set that its authors offer as one archive.

    Attributes:
        title: the data set's name.
        url: of the archive. It may move; `--url` names another.
        sha256: hex digest of the archive.
        licence: under which its authors offer it.
        citation: the paper that they ask to cite.
        size: bytes of the archive; None: as many as the server announces.
    """

    title: str
    url: str
    sha256: str
    licence: str
    citation: str
    size: int | None = None


# Addresses and digests are those that anomalib 2.7 publishes (Apache-2.0).
PUBLIC_SETS = {
    "mvtec": PublicSet(
        title="MVTec AD",
        url="https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/"
        "download/420938113-1629960298/mvtec_anomaly_detection.tar.xz",
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        licence="CC BY-NC-SA 4.0: no commercial use",
        citation="Bergmann et al., MVTec AD, CVPR 2019",
    ),
    "btad": PublicSet(
        title="BTAD (beanTech Anomaly Detection)",
        url="https://avires.dimi.uniud.it/papers/btad/btad.zip",
        sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        licence="CC BY-NC-SA 4.0: no commercial use",
        citation="Mishra et al., VT-ADL, ISIE 2021",
    ),
}
