"""Photo -> faces -> restorer -> photo: what a user gets back, whatever went in."""

import random
from dataclasses import replace

import pytest
import torch
from photos import detector_file, needs_photos, read_photo_number
from torch.nn.functional import interpolate

from iqpbfr_core import load_detector, restore_photo
from iqpbfr_core.errors import InputError, IQPError
from iqpbfr_core.faces import alignment, selection
from iqpbfr_core.faces.face import Faces
from iqpbfr_core.faces.masks import template_mask
from iqpbfr_core.faces.measures import flicker, seam
from iqpbfr_core.faces.paste import paste
from iqpbfr_core.faces.settings import FaceSettings
from iqpbfr_core.image import resize


@pytest.fixture(scope="module")
def detector():
    return load_detector(detector_file())


def upright(boxes, size, frames=None, num_frames=1):
    """Upright faces in these boxes."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    centres, widths = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2] - boxes[:, 0]
    shape = alignment.TEMPLATE.float() - alignment.TEMPLATE.float().mean(0)
    frames = torch.zeros(len(boxes), dtype=torch.long) if frames is None else torch.tensor(frames)
    landmarks = centres[:, None] + shape * 2 * widths[:, None, None]
    return Faces(boxes, landmarks, torch.ones(len(boxes)), frames, size, num_frames)


@pytest.fixture
def frames():
    """(2, 3, 200, 260): smooth random pictures."""
    coarse = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(5))
    return interpolate(coarse, size=(200, 260), mode="bicubic").clamp(0, 1)


@pytest.fixture
def faces():
    return upright([(20, 30, 80, 90), (150, 60, 220, 130), (90, 90, 150, 150)], (200, 260), [0, 0, 1], 2)


def test_only_masked_pixels_change_and_sizes_stay(tiny, frames, faces):
    result = restore_photo(frames, tiny, faces=faces)
    assert result.image.shape == frames.shape
    assert result.mask.shape == (2, 1, 200, 260)
    assert result.crops.shape == result.restored.shape == (3, 3, 64, 64)
    untouched = (result.mask == 0).expand_as(frames)
    assert torch.equal(result.image[untouched], frames[untouched])
    assert not torch.equal(result.image, frames)


def test_a_batch_equals_its_singles(tiny, frames, faces):
    together = restore_photo(frames, tiny, faces=faces, batch_size=2)
    for index in range(2):
        one = faces[faces.frames == index]
        one = Faces(one.boxes, one.landmarks, one.scores, one.frames * 0, one.size)
        alone = restore_photo(frames[index : index + 1], tiny, faces=one)
        torch.testing.assert_close(together.image[index : index + 1], alone.image, atol=1e-4, rtol=0)


@needs_photos
def test_the_seam_is_a_fifth_of_a_plain_paste_at_most(tiny, detector):
    photo = read_photo_number(5)
    result = restore_photo(photo, tiny, detector)
    matrices = alignment.align(result.faces, 64)
    plain, _ = paste(photo, result.restored, result.faces, matrices, torch.ones(1, 1, 64, 64))
    assert len(result.faces) == 2
    assert seam(photo, result.image) < seam(photo, plain) / 5


def test_a_grey_photo_stays_grey(tiny, frames, faces):
    grey = frames[:, :1].expand(-1, 3, -1, -1).contiguous()
    image = restore_photo(grey, tiny, faces=faces, keep_colour=True).image
    assert torch.equal(image[:, 0], image[:, 1])
    assert torch.equal(image[:, 0], image[:, 2])
    assert not torch.equal(image, grey)


def test_kept_colours_are_the_photos(tiny, frames, faces):
    weight = template_mask(64) / template_mask(64).sum()

    def tone_error(keep_colour):
        result = restore_photo(frames, tiny, faces=faces, keep_colour=keep_colour)
        return float(((result.restored - result.crops) * weight).sum((2, 3)).abs().mean())

    assert tone_error(True) < 0.02 < tone_error(False)


def test_small_faces_are_left_alone_or_upscaled(tiny, frames, faces):
    assert len(restore_photo(frames, tiny, faces=faces, min_size=65).faces) == 1
    seen = []

    def upscale(crop):
        seen.append(tuple(crop.shape))
        return resize(crop, (4 * crop.shape[2], 4 * crop.shape[3]))

    upscaled = restore_photo(frames, tiny, faces=faces, min_size=65, upscale=upscale)
    assert len(upscaled.faces) == 3
    assert len(seen) == 2
    with pytest.raises(InputError, match="upscale"):
        restore_photo(frames, tiny, faces=faces, min_size=65, upscale=lambda crop: crop * 2)


def test_faces_that_score_well_are_left_alone_and_told(tiny, frames, faces):
    scores = iter((0.9, 0.5, 0.7)[: len(faces)])
    result = restore_photo(frames, tiny, faces=faces, skip_above=0.7, metric=lambda crop: torch.tensor([next(scores)]))
    is_good = torch.tensor([0.9, 0.5, 0.7])[: len(faces)] >= 0.7
    assert torch.equal(result.skipped.boxes, faces[is_good].boxes)
    assert torch.equal(result.faces.boxes, faces[~is_good].boxes)
    assert len(restore_photo(frames, tiny, faces=faces).skipped) == 0
    assert len(restore_photo(frames, tiny, faces=faces, skip_above=0.0).faces) == 0  # the built-in metric


def test_faces_go_into_an_upscaled_background_at_its_scale(tiny, frames, faces):
    background = resize(frames, (400, 520))
    result = restore_photo(frames, tiny, faces=faces, background=background, mask=torch.ones(1, 1, 200, 260))
    assert result.image.shape == background.shape
    plain = restore_photo(frames, tiny, faces=faces)
    assert (resize(result.mask, (200, 260)) - plain.mask).abs().mean() < 2e-3
    assert (resize(result.image, (200, 260)) - plain.image).abs().mean() < 0.02
    untouched = (result.mask == 0).expand_as(background)
    assert torch.equal(result.image[untouched], background[untouched])
    with pytest.raises(InputError, match="background"):
        restore_photo(frames, tiny, faces=faces, background=background[..., :400])


def test_progress_is_told_and_may_stop_the_work(tiny, frames, faces):
    seen = []
    restore_photo(frames, tiny, faces=faces, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3)] * 3 + [(2, 3), (3, 3)] + [(3, 3)] * 3  # cut out, restored in two batches, pasted


@pytest.mark.parametrize("allowed", range(11))
def test_a_photo_can_be_stopped_at_every_face(tiny, frames, faces, allowed):
    """While its faces are cut out to be scored, and to be restored, while they are restored and pasted."""
    calls = []

    def progress(done, total):
        if len(calls) == allowed:
            raise KeyboardInterrupt
        calls.append(done)

    options = {"skip_above": 1.0, "metric": lambda crop: crop.mean()}
    with pytest.raises(KeyboardInterrupt):
        restore_photo(frames, tiny, faces=faces, batch_size=2, progress=progress, **options)
    assert len(calls) == allowed


def test_two_hundred_faces_in_one_picture(tiny):
    """Each is restored, what lies between them stays, and no batch is larger than asked."""
    corners = [(x, y) for y in range(10, 600, 60) for x in range(10, 1200, 60)]
    faces = upright([(x, y, x + 30, y + 30) for x, y in corners], (600, 1200))
    coarse = torch.rand(1, 3, 40, 80, generator=torch.Generator().manual_seed(6))
    photo = interpolate(coarse, size=(600, 1200), mode="bicubic").clamp(0, 1)
    steps = []
    told = {"progress": lambda done, total: steps.append(done)}
    result = restore_photo(photo, tiny, lambda images: faces, batch_size=16, **told)
    assert len(result.faces) == 200
    assert result.report == ("200 faces restored",)
    changed = (result.image != photo).any(1)[0]
    assert all(changed[y : y + 30, x : x + 30].any() for x, y in corners)
    untouched = (result.mask == 0).expand_as(photo)
    assert untouched.any()
    assert torch.equal(result.image[untouched], photo[untouched])
    assert sorted(set(steps)) == [*range(0, 200, 16), 200]


def test_a_picture_of_twelve_thousand_pixels(tiny):
    """The detector sees bounded pieces, and only the face's region changes."""
    detector = load_detector()
    seen = []
    ask = detector.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    photo = torch.rand(1, 3, 300, 12_000, generator=torch.Generator().manual_seed(7)) * 0.1 + 0.4
    restore_photo(photo, tiny, detector)
    ask.remove()
    assert seen
    assert all(max(shape[2:]) <= 640 and shape[0] <= 8 for shape in seen)
    face = upright([(11_800, 100, 11_900, 200)], (300, 12_000))
    result = restore_photo(photo, tiny, faces=face)
    assert torch.equal(result.image[..., :11_500], photo[..., :11_500])
    assert not torch.equal(result.image[..., 11_800:11_900], photo[..., 11_800:11_900])


def test_chosen_faces_alone_are_restored(tiny, frames, faces):
    chosen = selection.first(selection.sort(faces, "size"), 1)
    result = restore_photo(frames, tiny, faces=chosen)
    assert result.faces.boxes[0].tolist() == [150, 60, 220, 130]
    assert result.mask[0, 0, 60, 50] == 0


def test_half_precision_frames_come_back_as_such(tiny, frames, faces):
    result = restore_photo(frames.half(), tiny, faces=faces)
    assert result.image.dtype == torch.float16
    untouched = (result.mask == 0).expand_as(frames)
    assert torch.equal(result.image[untouched], frames.half()[untouched])


def test_wrong_use_is_explained(tiny, frames, faces):
    for wrong, word in (
        ({"faces": faces, "mask": torch.ones(200, 260)}, "mask"),
        ({"faces": faces, "visibility": 2}, "visibility"),
        ({"faces": faces, "batch_size": 0}, "batch_size"),
        ({"faces": faces, "quality": 3}, "quality"),
        ({"faces": upright([(1, 1, 50, 50)], (100, 100))}, "same images"),
    ):
        with pytest.raises(InputError, match=word):
            restore_photo(frames, tiny, **wrong)


@needs_photos
def test_a_pan_flickers_at_most_half_as_much_with_smoothing(tiny, detector):
    photo = read_photo_number(5)
    step, count, width = 5, 8, 400
    pan = torch.cat([photo[:, :, 20:420, step * t : step * t + width] for t in range(count)])
    still_width = width - step * (count - 1)

    def at_rest(frames):
        return torch.stack(
            [f[..., (start := step * (count - 1 - t)) : start + still_width] for t, f in enumerate(frames)]
        )

    assert flicker(at_rest(pan)) == 0
    found = detector(pan)
    per_frame = restore_photo(pan, tiny, faces=found).image
    smooth = restore_photo(pan, tiny, faces=found, smoothing=2).image
    assert flicker(at_rest(smooth)) <= flicker(at_rest(per_frame)) / 2


@needs_photos
def test_odd_inputs_end_in_a_result_or_a_clear_error(tiny, detector):
    chance, photo = random.Random(0), read_photo_number(2)
    outcomes = {"result": 0, "error": 0}

    def side():
        return chance.choice([1, 2, 5, 15, 16, 17, 33, 64, 150, 301])

    makers = {
        "noise": lambda: torch.rand(1, 3, side(), side()),
        "flat": lambda: torch.full((chance.choice([1, 2]), 3, side(), side()), chance.random()),
        "alpha": lambda: torch.rand(1, 4, side(), side()),
        "one channel": lambda: torch.rand(1, 1, side(), side()),
        "no batch": lambda: torch.rand(3, side(), side()),
        "empty batch": lambda: torch.rand(0, 3, side(), side()),
        "out of range": lambda: torch.rand(1, 3, 64, side()) * 3 - 1,
        "nan": lambda: torch.full((1, 3, 64, 64), float("nan")),
        "bytes": lambda: torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        "strip": lambda: torch.rand(1, 3, 16, chance.choice([900, 3000])),
        "face at the edge": lambda: photo[:, :, chance.randrange(90, 180) :, chance.randrange(180, 280) :],
        "grey face": lambda: photo[:, 1:2, 60:, 60:].expand(-1, 3, -1, -1),
        "upside down": lambda: photo.flip(2),
        "half": lambda: photo[:, :, ::2, ::2].half(),
    }
    for number in range(100):
        kind = list(makers)[number % len(makers)]
        images = makers[kind]()
        try:
            result = restore_photo(images, tiny, detector, smoothing=chance.choice([0, 2]))
        except IQPError as error:
            outcomes["error"] += len(str(error)) > 20
        else:
            assert result.image.shape == images.shape, kind
            assert torch.isfinite(result.image).all(), kind
            outcomes["result"] += 1
    assert sum(outcomes.values()) == 100, f"an error said too little: {outcomes}"
    assert min(outcomes.values()) > 20, outcomes


@needs_photos
@pytest.mark.slow
def test_an_8k_frame_is_restored(tiny, detector):
    frame = torch.full((1, 3, 4320, 7680), 0.5)
    frame[:, :, 1000:2400, 3000:4400] = resize(read_photo_number(6), (1400, 1400))
    result = restore_photo(frame, tiny, detector)
    assert result.image.shape == frame.shape
    assert len(result.faces) == 1


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("min_size", (NAN, INF, -1)),
        ("visibility", (NAN, -0.1, 1.1)),
        ("feather", (NAN, 0, 2)),
        ("smoothing", (NAN, INF, -1)),
        ("margin", (NAN, -1)),
        ("quality", (NAN, -0.1, 1.1)),
        ("fidelity", (NAN, -0.1, 1.1)),
        ("alpha", (NAN, INF, -1)),
        ("guidance", (NAN, INF, -1)),
        ("batch_size", (0, -3)),
        ("mask", tuple(torch.full((1, 1, 200, 260), value) for value in (NAN, INF, -0.5, 1.5, 255))),
    ],
)
def test_numbers_that_make_no_sense_are_refused(name, values, tiny, frames, faces):
    for value in values:
        with pytest.raises(InputError):
            restore_photo(frames, tiny, faces=faces, **{name: value})


def test_pasting_can_be_stopped_before_any_face(frames, faces):
    class Stopped(BaseException):
        pass

    for allowed in range(3):
        calls = []

        def progress(calls=calls, allowed=allowed):
            if len(calls) == allowed:
                raise Stopped
            calls.append(1)

        with pytest.raises(Stopped):
            paste(
                frames,
                torch.rand(3, 3, 64, 64),
                faces,
                alignment.align(faces, 64),
                template_mask(64),
                progress=progress,
            )
        assert len(calls) == allowed


def test_settings_of_a_face_hold_for_it_alone(tiny, frames, faces):
    """Each face as in a run in which all have its settings; of several settings the last holds."""
    strong, weak = (restore_photo(frames, tiny, faces=faces, fidelity=w).restored for w in (0.0, 1.0))
    settings = [FaceSettings(faces, 1.0, 0.5, 1.0), FaceSettings(faces[[0, 2]], 1.0, 0.0, 1.0)]
    settings.append(FaceSettings(faces[[1]], 1.0, 1.0, 0.0))
    result = restore_photo(frames, tiny, faces=faces, settings=settings)
    for number, wanted in enumerate((strong, weak, strong)):
        torch.testing.assert_close(result.restored[number], wanted[number], atol=1e-5, rtol=0)
    left, top, right, bottom = faces.boxes[1].long().tolist()
    assert torch.equal(result.image[0, :, top:bottom, left:right], frames[0, :, top:bottom, left:right])


def test_settings_know_a_face_again_by_its_place(tiny, frames, faces):
    """A box some pixels away is the same face; one in another frame, or of a neighbour, is not."""
    moved = upright([(24, 33, 84, 93)], (200, 260), [0], 2)
    elsewhere = upright([(20, 30, 80, 90)], (200, 260), [1], 2)
    plain = restore_photo(frames, tiny, faces=faces)
    for own, changed in ((moved, [True, False, False]), (elsewhere, [False, False, False])):
        result = restore_photo(frames, tiny, faces=faces, settings=[FaceSettings(own, 0.0, 1.0, 1.0)])
        differences = (result.restored - plain.restored).abs().flatten(1).amax(1)
        assert (differences > 1e-4).tolist() == changed


def test_a_model_without_fidelity_ignores_it_for_a_face_too(tiny, frames, faces, monkeypatch):
    supports = replace(tiny.supports, fidelity=False, default_fidelity=0.0)
    monkeypatch.setattr(tiny, "supports", supports)
    own = [FaceSettings(faces, 1.0, 1.0, 1.0)]
    plain = restore_photo(frames, tiny, faces=faces)
    assert torch.equal(restore_photo(frames, tiny, faces=faces, settings=own).restored, plain.restored)
