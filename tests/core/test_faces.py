"""Faces found, chosen, aligned, pasted and followed: each promise of `iqpbfr_core.faces` by name."""

import hashlib
import math

import pytest
import torch
from photos import DATA, detector_file, known_faces, needs_photos, read_photo_number

from iqpbfr_core.errors import CheckpointError, InputError, WeightsNotFoundError
from iqpbfr_core.faces import alignment, segs, selection, tracks, weights
from iqpbfr_core.faces.colour import find_tone, match_colour
from iqpbfr_core.faces.detection import Detector, load_detector, merge_duplicates
from iqpbfr_core.faces.face import Faces, join
from iqpbfr_core.faces.masks import FaceParser, load_parser, template_mask
from iqpbfr_core.faces.measures import flicker, seam
from iqpbfr_core.faces.paste import paste
from iqpbfr_core.image import read_image, resize, to_grey
from iqpbfr_core.models.retinaface import RetinaFace, RetinaFaceConfig
from iqpbfr_core.restorer import Codes


@pytest.fixture(scope="module")
def detector():
    return load_detector(detector_file())


def make_faces(centres, width=60.0, size=(240, 320), frames=None, scores=None, num_frames=None, angle=0.0):
    """Faces of the template's shape, `width` wide, turned by `angle` degrees, around these centres."""
    centres = torch.tensor(centres, dtype=torch.float32).reshape(-1, 2)
    frames = torch.zeros(len(centres), dtype=torch.long) if frames is None else torch.tensor(frames)
    turn = math.radians(angle)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    shape = (alignment.TEMPLATE.float() - alignment.TEMPLATE.float().mean(0)) * 2 * width @ rotation.T
    return Faces(
        torch.cat((centres - width / 2, centres + width / 2), 1),
        centres[:, None] + shape,
        torch.full((len(centres),), 0.9) if scores is None else torch.tensor(scores),
        frames,
        size,
        num_frames or int(frames.max()) + 1,
    )


def smooth_picture(batch=1, size=(240, 320), seed=0):
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


# Detection, with real weights on real pictures


@needs_photos
def test_every_main_face_is_found_and_its_landmarks_are_close(detector):
    errors, found = [], 0
    for name, known in known_faces().items():
        faces = detector(read_image(DATA / "photos" / name))
        for face in (face for face in known if face.is_main):
            assert len(faces), f"no face found in {name}"
            distance = (faces.landmarks - face.landmarks).norm(dim=2).mean(1) / face.eye_distance
            errors.append(float(distance.min()))
            found += float(distance.min()) < 0.5
    assert found >= 0.95 * len(errors), f"{found} of {len(errors)} main faces found"
    assert sorted(errors)[len(errors) // 2] < 0.08, f"landmark errors {errors}"


@needs_photos
def test_a_face_is_found_once_at_every_scale(detector):
    portrait = read_photo_number(13)[:, :, 150:720, 200:660]  # the face fills the frame
    for scale in (0.5, 1, 2):
        picture = resize(portrait, (int(570 * scale), int(460 * scale)))
        assert len(detector(picture)) == 1, f"at {scale} times the size"


@needs_photos
def test_small_faces_in_a_large_frame_need_the_second_pass(detector):
    frame = torch.full((1, 3, 900, 1600), 0.4)
    face = resize(read_photo_number(6), (120, 120))  # the face is 24 pixels wide
    for y, x in ((40, 60), (400, 700), (700, 1400)):
        frame[:, :, y : y + 120, x : x + 120] = face
    assert len(detector(frame, size=320, detail=0)) < 3
    assert len(detector(frame, size=320, detail=5)) == 3


@needs_photos
def test_detecting_a_batch_equals_detecting_each(detector):
    frames = torch.cat([resize(read_photo_number(n), (460, 460)) for n in (2, 5, 8)])
    together = detector(frames, batch_size=2)
    for index in range(3):
        alone, here = detector(frames[index : index + 1]), together[together.frames == index]
        torch.testing.assert_close(here.boxes, alone.boxes, atol=0.05, rtol=0)
        torch.testing.assert_close(here.landmarks, alone.landmarks, atol=0.05, rtol=0)


@needs_photos
def test_detection_in_half_precision_finds_the_same_face(detector):
    half = load_detector(detector_file(), dtype=torch.bfloat16)
    picture = read_photo_number(2)
    full_faces, half_faces = (selection.first(selection.sort(d(picture)), 1) for d in (detector, half))
    assert (full_faces.landmarks - half_faces.landmarks).abs().max() < 0.05 * full_faces.widths[0]


@needs_photos
def test_confidence_and_size_limits_hold(detector):
    picture = read_photo_number(2)
    assert (detector(picture, confidence=0.95).scores >= 0.95).all()
    assert (detector(picture, min_size=60).widths >= 60).all()
    assert len(detector(picture)) > len(detector(picture, min_size=60)) == 1


@needs_photos
def test_the_relu_setting_comes_from_the_name_or_the_caller(tmp_path, detector):
    renamed = tmp_path / "any_name.pth"
    renamed.write_bytes(detector_file().read_bytes())
    assert load_detector(renamed).config == RetinaFaceConfig("mobile0.25", slope=0.1)
    assert load_detector(renamed, relu=True).config == detector.config
    assert detector.config == RetinaFaceConfig("mobile0.25", slope=0.0, anchors=((10, 20), (32, 64), (128, 256)))


@pytest.mark.parametrize(
    "wrong", [{"confidence": 0}, {"min_size": -1}, {"size": 10}, {"batch_size": 0}, {"detail": -1}]
)
def test_detection_options_out_of_range_are_refused(wrong):
    detector = Detector(RetinaFace(RetinaFaceConfig("mobile0.25", slope=0.1)))
    with pytest.raises(InputError, match=r"must"):
        detector(torch.zeros(1, 3, 64, 64), **wrong)


def test_overlapping_boxes_and_parts_of_a_face_are_one_face():
    whole = make_faces([(100, 100), (102, 99), (240, 100)], width=80, scores=[0.9, 0.99, 0.95])
    part = make_faces([(110, 110)], width=30, scores=[0.999])
    other_frame = make_faces([(100, 100)], width=80, frames=[1])
    two = [Faces(p.boxes, p.landmarks, p.scores, p.frames, p.size, 2) for p in (whole, part, other_frame)]
    merged = merge_duplicates(join(two))
    assert merged.frames.tolist() == [0, 0, 1]
    assert merged.scores[:2].tolist() == pytest.approx([0.99, 0.95])


def test_passes_that_agree_are_sure_and_a_doubtful_one_alone_is_not():
    seen = make_faces([(100, 100), (101, 100), (99, 101), (240, 100)], width=80, scores=[0.6, 0.55, 0.5, 0.7])
    merged = merge_duplicates(seen, torch.tensor([1, 2, 3, 1]), confidence=0.8)
    assert merged.centres[:, 0].tolist() == pytest.approx([100], abs=1)
    assert merged.scores.tolist() == pytest.approx([0.8])
    assert len(merge_duplicates(seen, torch.ones(4), confidence=0.8)) == 0


def test_a_face_that_more_passes_saw_is_no_part_of_a_doubtful_larger_one():
    inner = make_faces([(110, 110), (111, 110)], width=40, scores=[0.9, 0.9])
    outer = make_faces([(100, 100)], width=80, scores=[0.95])
    passes = torch.tensor([1, 2, 1])
    assert merge_duplicates(join((inner, outer)), passes, 0.8).widths.tolist() == pytest.approx([40])
    assert merge_duplicates(join((inner, outer)), torch.ones(3), 0.8).widths.tolist() == pytest.approx([80])


# Weight files


def test_missing_weights_name_file_folder_and_address(tmp_path):
    with pytest.raises(WeightsNotFoundError) as caught:
        load_detector("retinaface_mobile0.25", folder=tmp_path)
    for part in ("detection_mobilenet0.25_Final.pth", str(tmp_path), "https://", "--download"):
        assert part in str(caught.value)
    with pytest.raises(WeightsNotFoundError, match="parsing_parsenet"):
        load_parser(folder=tmp_path)
    with pytest.raises(InputError, match="retinaface_resnet50"):
        load_detector("yolov5")


def test_the_names_of_published_files_mean_their_detectors(tmp_path, monkeypatch):
    """Wherever the files lie; but a file of that name in the folder one stands in is that file."""
    file = tmp_path / "detection_mobilenet0.25_Final.pth"
    torch.save(RetinaFace(RetinaFaceConfig("mobile0.25", slope=0.1)).state_dict(), file)
    assert load_detector(file.name, folder=tmp_path).config.backbone == "mobile0.25"
    with pytest.raises(WeightsNotFoundError, match="detection_Resnet50_Final"):
        load_detector("detection_Resnet50_Final.pth", folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_detector(file.name, folder=tmp_path / "nowhere").config.backbone == "mobile0.25"


def test_foreign_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    for load in (load_detector, load_parser):
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            load(tmp_path / "a.pth")


def test_a_download_is_kept_only_when_it_is_the_released_file(tmp_path):
    source = tmp_path / "released.bin"
    source.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    right = weights.WeightFile("f.pth", source.as_uri(), 7, sha256)
    for name, wrong in {
        "hash": weights.WeightFile("f.pth", source.as_uri(), 7, "0" * 64),
        "size": weights.WeightFile("f.pth", source.as_uri(), 8, sha256),
        "address": weights.WeightFile("f.pth", (tmp_path / "nowhere").as_uri(), 7, sha256),
    }.items():
        with pytest.raises(CheckpointError):
            weights.locate(wrong, tmp_path / name, download=True)
        assert not list((tmp_path / name).glob("*"))
    assert weights.locate(right, tmp_path / "right", download=True).read_bytes() == b"weights"


# Selection


def test_selection_by_size_place_and_number():
    faces = join(
        [make_faces([(60, 60)], width=40), make_faces([(160, 200)], width=80), make_faces([(280, 100)], width=50)]
    )
    x = [60, 160, 280]

    def centres(chosen):
        return chosen.centres[:, 0].round().tolist()

    assert centres(selection.sort(faces, "size")) == [160, 280, 60]
    assert centres(selection.sort(faces, "left_to_right")) == x
    assert centres(selection.sort(faces, "right_to_left")) == x[::-1]
    assert centres(selection.first(selection.sort(faces, "size"), 1)) == [160]
    assert centres(selection.take(faces, [0, -1])) == [60, 280]
    assert centres(selection.at(faces, 165, 190)) == [160]
    assert centres(selection.larger_than(faces, 45)) == [160, 280]
    assert len(selection.at(faces, 5, 5)) == 0
    mask = torch.zeros(1, 1, 240, 320)
    mask[..., 200:] = 1
    assert centres(selection.inside(faces, mask)) == [280]
    with pytest.raises(InputError, match="no face 3"):
        selection.take(faces, [3])
    with pytest.raises(InputError, match="left_to_right"):
        selection.sort(faces, "beauty")


def test_selection_counts_per_frame():
    faces = make_faces([(50, 50), (250, 50), (150, 50)], frames=[0, 1, 1])
    assert selection.rank(faces).tolist() == [0, 0, 1]
    assert selection.take(selection.sort(faces, "left_to_right"), [0]).centres[:, 0].tolist() == [50, 150]


def test_preview_marks_faces_and_nothing_else():
    picture = smooth_picture()
    shown = selection.preview(picture, make_faces([(100, 100)]))
    changed = ((shown - picture).abs().amax(1) > 1 / 255)[0].nonzero()
    assert changed.min(0).values.tolist() == [70, 70]
    assert (changed.max(0).values <= 131).all()


# Alignment


def test_alignment_puts_landmarks_on_the_template_at_any_crop_size():
    faces = make_faces([(120, 110), (200, 90)], angle=25)
    for size in (64, 257, 512):
        to_crop = alignment.invert(alignment.align(faces, size))
        points = faces.landmarks.double() @ to_crop[:, :, :2].mT + to_crop[:, :, 2][:, None]
        torch.testing.assert_close(points, (alignment.TEMPLATE * size).expand(2, -1, -1), atol=1e-3 * size, rtol=0)


def test_the_inverse_of_a_matrix_is_exact():
    matrices = alignment.align(make_faces([(7000, 4000)], width=900, size=(4320, 7680), angle=-13), 512)
    points = torch.rand(1, 20, 2, dtype=torch.float64) * 512
    there = points @ matrices[:, :, :2].mT + matrices[:, :, 2][:, None]
    inverse = alignment.invert(matrices)
    torch.testing.assert_close(there @ inverse[:, :, :2].mT + inverse[:, :, 2][:, None], points, atol=1e-9, rtol=0)


def test_a_crop_shows_the_frame_where_it_should():
    frame = smooth_picture(size=(300, 300))
    faces = make_faces([(150, 150)], width=64, size=(300, 300))
    matrix = torch.tensor([[[1.0, 0, 86], [0, 1.0, 86]]], dtype=torch.float64)  # the frame itself, shifted
    torch.testing.assert_close(
        alignment.crop(frame, faces, 128, matrix), frame[:, :, 86:214, 86:214], atol=1e-5, rtol=0
    )


def test_shrinking_a_face_does_not_alias():
    y, x = torch.meshgrid(torch.arange(600), torch.arange(600), indexing="ij")
    board = ((x + y) % 2).float().expand(1, 3, -1, -1).contiguous()  # finest detail there is: its mean is 0.5
    crop = alignment.crop(board, make_faces([(300, 300)], width=250, size=(600, 600), angle=10), 64)
    assert (crop - 0.5).abs().max() < 0.05


def test_faces_that_cannot_be_aligned_are_refused():
    point = Faces(torch.zeros(1, 4), torch.ones(1, 5, 2), torch.ones(1), torch.zeros(1).long(), (100, 100))
    with pytest.raises(InputError, match="one spot"):
        alignment.align(point, 64)
    outside = make_faces([(5000, 5000)])
    with pytest.raises(InputError, match="outside"):
        alignment.crop(smooth_picture(), outside, 64)


# Paste


def paste_noise(picture, faces, masks, size=128, **options):
    matrices = alignment.align(faces, size)
    crops = torch.rand(len(faces), 3, size, size, generator=torch.Generator().manual_seed(3))
    return paste(picture, crops, faces, matrices, masks, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_pixels_outside_the_masks_are_bit_identical(dtype):
    picture = smooth_picture(2).to(dtype)
    faces = make_faces([(100, 100), (30, 20), (300, 230)], frames=[0, 1, 1], angle=12)
    pasted, opacity = paste_noise(picture, faces, template_mask(128))
    assert pasted.dtype == dtype
    untouched = (opacity == 0).expand_as(picture)
    assert 0.2 < untouched.float().mean() < 0.95
    assert torch.equal(pasted[untouched], picture[untouched])
    assert not torch.equal(pasted, picture)


def test_float_precision_survives():
    picture = smooth_picture() * 1e-4 + 0.5  # differences far below 8 bits
    faces = make_faces([(150, 120)])
    matrices = alignment.align(faces, 256)
    crops = alignment.crop(picture, faces, 256, matrices)
    pasted, _ = paste(picture, crops, faces, matrices, template_mask(256))
    assert (pasted - picture).abs().max() < 2e-6


def test_pasting_back_an_unchanged_crop_changes_next_to_nothing():
    picture = smooth_picture()
    faces = make_faces([(150, 120)], angle=20)
    for size in (96, 256, 700):
        matrices = alignment.align(faces, size)
        pasted, _ = paste(picture, alignment.crop(picture, faces, size, matrices), faces, matrices, template_mask(size))
        assert (pasted - picture).abs().mean() < 1e-3, f"crop size {size}"


def test_the_seam_is_a_fifth_of_a_plain_paste_at_most():
    picture = smooth_picture()
    faces = make_faces([(150, 120)], angle=15)
    soft, _ = paste_noise(picture, faces, template_mask(128))
    plain, _ = paste_noise(picture, faces, torch.ones(1, 1, 128, 128))
    assert seam(picture, soft) < seam(picture, plain) / 5
    assert seam(picture, picture) == 0


def test_visibility_and_the_users_mask_limit_a_paste():
    picture = smooth_picture()
    faces = make_faces([(150, 120)])
    full, _ = paste_noise(picture, faces, template_mask(128))
    half, _ = paste_noise(picture, faces, template_mask(128), visibility=0.5)
    torch.testing.assert_close(half, (full + picture) / 2, atol=1e-6, rtol=0)
    assert torch.equal(paste_noise(picture, faces, template_mask(128), visibility=0)[0], picture)
    left = torch.zeros(1, 1, 240, 320)
    left[..., :150] = 1
    limited, _ = paste_noise(picture, faces, template_mask(128), keep=left)
    assert torch.equal(limited[..., 150:], picture[..., 150:])
    assert torch.equal(limited[..., :150], full[..., :150])
    with pytest.raises(InputError, match="mask"):
        paste_noise(picture, faces, template_mask(128), keep=left[..., 1:])


def test_template_mask_fades_to_nothing():
    mask = template_mask(256)[0, 0]
    assert mask[128, 128] == 1
    assert max(mask[0].max(), mask[:, 0].max()) < 0.01
    assert (mask[1:] - mask[:-1]).abs().max() < 0.06
    with pytest.raises(InputError, match="feather"):
        template_mask(64, 0)


def test_parser_mask_is_face_only_and_fades():
    class Halves(torch.nn.Module):
        """Says skin (1) on the left half, clothes (18) on the right."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            classes = torch.zeros(len(x), 19, *x.shape[2:])
            classes[:, 1, :, : x.shape[3] // 2] = 1
            classes[:, 18, :, x.shape[3] // 2 :] = 1
            return classes, x

    mask = FaceParser(Halves())(torch.rand(2, 3, 128, 128))
    assert mask.shape == (2, 1, 128, 128)
    assert mask[:, :, :, 66:].max() == 0
    assert mask[:, :, 64, 40].min() > 0.99
    assert (mask[0, 0, :, 1:] - mask[0, 0, :, :-1]).abs().max() < 0.25


# Colour


def test_colour_match_restores_tone():
    original = smooth_picture(2, (64, 64)) * 0.6 + 0.2
    tinted = original * torch.tensor([0.8, 1.0, 1.1])[:, None, None]
    assert (match_colour(tinted, original) - original).abs().mean() < 0.01


# Prints: what becomes of a grey picture.
PRINTS = {
    "grey": lambda x: x,
    "sepia": lambda x: (x * torch.tensor([1.351, 1.203, 0.937])[:, None, None]).clamp(0, 1),
    "faded": lambda x: (
        x * torch.tensor([0.7, 0.65, 0.5])[:, None, None] + torch.tensor([0.2, 0.15, 0.1])[:, None, None]
    ),
    "cyanotype": lambda x: torch.stack([x[:, 0] ** 1.5, x[:, 1] ** 1.1, x[:, 2] ** 0.8], 1),
    "noisy sepia": lambda x: (
        PRINTS["sepia"](x) + 2 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1),
}


@pytest.mark.parametrize("name", PRINTS)
def test_prints_are_told_from_colour_photos_and_their_tone_is_kept(name):
    original = smooth_picture(2, (64, 64)) * 0.8 + 0.1
    toned = PRINTS[name](to_grey(original))
    tone = find_tone(torch.cat((toned, original)))
    assert tone.is_all.tolist() == [True, True, False, False]
    again = tone[torch.tensor([0, 2])].apply(torch.cat((to_grey(toned[:1]), original[:1])))
    assert (again[0] - toned[0]).abs().mean() < 0.02
    assert torch.equal(again[1], original[0])
    assert name != "grey" or torch.equal(again[0, 0], again[0, 2])


def test_a_flat_picture_is_of_one_tone():
    flat = torch.tensor([0.6, 0.5, 0.3])[:, None, None].expand(1, 3, 32, 32)
    tone = find_tone(flat)
    assert tone.is_all.all()
    torch.testing.assert_close(tone.apply(to_grey(flat)), flat, atol=1e-3, rtol=0)


# Time


def test_tracks_follow_faces_and_survive_a_gap():
    faces = make_faces(
        [(50, 50), (250, 60), (60, 50), (70, 50), (250, 62), (240, 61)],
        frames=[0, 0, 1, 2, 2, 3],
    )
    assert tracks.link(faces).tolist() == [0, 1, 0, 0, 1, 1]


def test_smoothing_keeps_even_motion_fills_gaps_and_calms_jitter():
    frames = [t for t in range(20) if t != 9]
    even = make_faces([(40 + 10 * t, 80 + 3 * t) for t in frames], frames=frames, size=(240, 640), num_frames=20)
    smooth, numbers = tracks.smooth(even, tracks.link(even))
    assert smooth.frames.tolist() == list(range(20))
    assert numbers.unique().tolist() == [0]
    expected = torch.tensor([(40.0 + 10 * t, 80.0 + 3 * t) for t in range(20)])
    torch.testing.assert_close(smooth.centres, expected, atol=1e-3, rtol=0)
    noise = torch.randn(19, 5, 2, generator=torch.Generator().manual_seed(0))
    shaky = Faces(even.boxes, even.landmarks + noise, even.scores, even.frames, even.size, 20)
    calm, _ = tracks.smooth(shaky, tracks.link(shaky))
    seen = torch.tensor(frames)
    assert (calm.landmarks[seen] - even.landmarks).std() < 0.6 * noise.std()
    single = make_faces([(100, 100)])
    torch.testing.assert_close(tracks.smooth(single, tracks.link(single))[0].landmarks, single.landmarks)


@pytest.mark.parametrize("books", [(), (2,)])
def test_codes_are_held_until_another_is_clearly_better(books):
    logits = torch.zeros(3, 4, 5, *books)  # three frames, four tokens, five codes
    logits[0, :, 1] = 2.0
    logits[1, :, 1], logits[1, :, 2] = 2.0, 2.5  # not clearly
    logits[2, :, 1], logits[2, :, 3] = 1.0, 4.0  # clearly
    codes = Codes(logits.argmax(2), logits, 1.0, None)
    assert codes.indices.flatten(1)[:, 0].tolist() == [1, 2, 3]
    steady = tracks.SteadyCodes(torch.zeros(3).long(), margin=1.0)(codes)
    assert steady.indices.flatten(1).unique(dim=1).flatten().tolist() == [1, 1, 3]


def test_flicker_is_zero_for_stills():
    assert flicker(smooth_picture().expand(4, -1, -1, -1)) == 0
    with pytest.raises(InputError, match="2 frames"):
        flicker(smooth_picture())


# Impact Pack's SEGS


def test_segs_have_impact_packs_shape_and_come_back_as_the_same_faces():
    picture = smooth_picture()
    faces = make_faces([(100, 100), (260, 60)], width=40, angle=10)
    (height, width), items = segs.to_segs(picture, faces)
    assert (height, width) == (240, 320)
    for seg, box in zip(items, faces.boxes.tolist(), strict=True):
        assert seg._fields == (
            "cropped_image",
            "cropped_mask",
            "confidence",
            "crop_region",
            "bbox",
            "label",
            "control_net_wrapper",
        )
        left, top, right, bottom = seg.crop_region
        assert 0 <= left < right <= 320
        assert 0 <= top < bottom <= 240
        assert seg.cropped_mask.shape == (bottom - top, right - left)
        assert tuple(seg.cropped_image.shape) == (1, bottom - top, right - left, 3)
        assert seg.bbox == pytest.approx(box, abs=1)
        assert seg.label == "face"
        assert seg.control_net_wrapper is None
    back = segs.from_segs(((height, width), items), faces)
    assert torch.equal(back.landmarks, faces.landmarks)
    mask = segs.mask(((height, width), items))
    assert mask.shape == (1, 1, 240, 320)
    assert mask[0, 0, 100, 100] > 0.9
    assert mask[0, 0, 230, 10] == 0


def test_segs_of_another_detector_get_upright_landmarks():
    box = make_faces([(100, 100)], width=80)
    _, items = segs.to_segs(smooth_picture(), box)
    guessed = segs.from_segs(((240, 320), items))
    left_eye, right_eye, nose, left_mouth, _ = guessed.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert ((guessed.landmarks[0] > 60) & (guessed.landmarks[0] < 140)).all()
    with pytest.raises(InputError, match="one image"):
        segs.to_segs(smooth_picture(2), make_faces([(100, 100)], num_frames=2))
    with pytest.raises(InputError, match="SEGS"):
        segs.from_segs("no segs")
