"""The test sets papers quote, and what they printed for them.

Several incompatible sets go by the name CelebA-Test: one model's FID is 18 on one and 63 on another. A printed number
belongs to its set, its protocol and its source, and is shown with all three.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedSet:
    """Attributes:
    name: as `iqpbfr benchmark --set` takes it.
    count: how many faces it has.
    has_originals: whether it comes with the faces before degradation.
    protocol: how the numbers are made.
    numbers: method -> measure -> value as printed.
    source: where these are from.
    """

    name: str
    count: int
    has_originals: bool
    protocol: str
    numbers: dict[str, dict[str, float]]
    source: str


_DMDP = "README of DMDP-FR, one protocol for all methods"


def _rows(measures: str, **rows: str) -> dict[str, dict[str, float]]:
    names = measures.split("/")
    return {
        method.replace("_", " "): dict(zip(names, map(float, values.split("/")), strict=True))
        for method, values in rows.items()
    }


SETS = (
    PublishedSet(
        "celeba-test-daefr",
        3000,
        True,
        "aligned 512 px faces, degraded as DAEFR's self_celeba_512_v2",
        _rows(
            "fid/lpips/niqe/psnr/ssim",
            CodeFormer="63.62/.365/4.516/21.45/.581",
            RestoreFormer="55.43/.463/4.003/20.15/.500",
            VQFR="55.46/.463/3.314/19.49/.481",
            GFPGAN="46.96/.453/4.061/19.57/.522",
            DAEFR="52.99/.388/4.417/19.93/.559",
            InterLCM="51.52/.398/3.943/20.06/.541",
        ),
        _DMDP,
    ),
    PublishedSet(
        "celeba-test-codeformer",
        3000,
        True,
        "aligned 512 px faces, degraded as CodeFormer's CelebA-Test",
        _rows("lpips/fid/psnr/ssim", CodeFormer=".299/60.62/22.18/.61"),
        "CodeFormer (arXiv 2206.11253), as listed by third parties",
    ),
    PublishedSet(
        "lfw-test",
        1711,
        False,
        "aligned 512 px faces of LFW, one per person",
        _rows(
            "fid/musiq",
            CodeFormer="54.41/71.43",
            RestoreFormer="49.91/73.07",
            VQFR="51.82/74.75",
            GFPGAN="51.50/73.57",
            DAEFR="48.85/73.84",
            InterLCM="57.18/74.69",
        ),
        _DMDP,
    ),
    PublishedSet(
        "webphoto-test",
        407,
        False,
        "aligned 512 px faces from the web",
        _rows(
            "fid/musiq",
            CodeFormer="86.46/74.00",
            RestoreFormer="79.66/69.84",
            VQFR="78.25/72.01",
            GFPGAN="91.54/72.10",
            DAEFR="77.34/72.71",
            InterLCM="79.49/75.80",
        ),
        _DMDP,
    ),
    PublishedSet(
        "wider-test",
        970,
        False,
        "aligned 512 px faces of WIDER FACE, heavily degraded",
        _rows(
            "fid/musiq",
            CodeFormer="40.01/69.31",
            RestoreFormer="51.47/67.84",
            VQFR="45.12/64.01",
            GFPGAN="40.47/72.81",
            DAEFR="37.70/64.15",
            InterLCM="41.69/65.45",
        ),
        _DMDP,
    ),
)
