"""Two builds of one image: the input that moved is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mendel.images import ChangedInput, ImageContents, ImagePart, LayerRecord, compare_images
from mendel.values import Digest


def layer(part: ImagePart, title: str, letter: str, packed: str | None = None) -> LayerRecord:
    return LayerRecord(
        part=part,
        title=title,
        diff_id=Digest(f"sha256:{letter * 64}"),
        digest=Digest(f"sha256:{(packed or letter) * 64}"),
        size_bytes=1,
        unpacked_bytes=1,
    )


def manifest(**files: str) -> bytes:
    listed = [{"path": path, "sha256": f"sha256:{letter * 64}", "part": "code"} for path, letter in files.items()]
    return json.dumps({"lock": "l", "release": {"tag": "t"}, "files": listed}).encode()


LAYERS = (
    layer(ImagePart.BASE, "base", "0"),
    layer(ImagePart.BASE, "base", "1"),
    layer(ImagePart.DEPENDENCIES, "environment", "2"),
    layer(ImagePart.DEPENDENCIES, "numpy 2.1.0", "3"),
    layer(ImagePart.DEPENDENCIES, "joblib 1.4, threadpoolctl 3.5", "4"),
    layer(ImagePart.RUNTIME, "mendel 0.1.0", "5"),
    layer(ImagePart.ARTIFACTS, "2 files", "6"),
    layer(ImagePart.CODE, "3 files", "7"),
)
CONFIG = {"config": {"Labels": {"a.b": "1"}, "Cmd": ["x"]}, "created": "c", "rootfs": {"diff_ids": []}, "history": []}
IMAGE = ImageContents(layers=LAYERS, config=CONFIG, manifest=manifest(model="a", other="b"))


def changed(index: int, new: LayerRecord | None) -> ImageContents:
    kept = (*LAYERS[:index], *(() if new is None else (new,)), *LAYERS[index + 1 :])
    return replace(IMAGE, layers=kept)


def test_one_image_has_no_difference_from_itself():
    """Equal images, compared, are equal."""
    assert compare_images(IMAGE, IMAGE) == ()


@pytest.mark.parametrize(
    ("index", "new", "moved", "name"),
    [
        (0, layer(ImagePart.BASE, "base", "f"), ChangedInput.BASE, ""),
        (1, None, ChangedInput.BASE, ""),
        (2, layer(ImagePart.DEPENDENCIES, "environment", "f"), ChangedInput.WHEEL, "environment"),
        (3, layer(ImagePart.DEPENDENCIES, "numpy 2.1.0", "f"), ChangedInput.WHEEL, "numpy 2.1.0"),
        (3, layer(ImagePart.DEPENDENCIES, "numpy 2.1.1", "f"), ChangedInput.WHEEL, "numpy"),
        (3, None, ChangedInput.WHEEL, "numpy"),
        (4, layer(ImagePart.DEPENDENCIES, "joblib 1.5, threadpoolctl 3.5", "f"), ChangedInput.WHEEL, "joblib"),
        (5, layer(ImagePart.RUNTIME, "mendel 0.1.0", "f"), ChangedInput.RUNTIME, "mendel 0.1.0"),
        (5, layer(ImagePart.RUNTIME, "mendel 0.2.0", "f"), ChangedInput.RUNTIME, ""),
        (6, layer(ImagePart.ARTIFACTS, "3 files", "f"), ChangedInput.ARTIFACTS, ""),
        (7, layer(ImagePart.CODE, "3 files", "f"), ChangedInput.CODE, ""),
        (3, layer(ImagePart.DEPENDENCIES, "numpy 2.1.0", "3", "f"), ChangedInput.COMPRESSOR, "of numpy 2.1.0"),
    ],
)
def test_the_input_that_moved_is_named(index, new, moved, name):
    """One layer that differs gives one difference, with the part and, where it is known, the wheel."""
    (found,) = compare_images(IMAGE, changed(index, new))
    assert (found.moved, found.name) == (moved, name)
    assert str(found)


def test_files_are_named_where_both_images_list_theirs():
    """A module that changed, one that is new and one that is gone."""
    again = replace(changed(7, layer(ImagePart.CODE, "3 files", "f")), manifest=manifest(model="c", third="b"))
    assert [(one.moved, one.name) for one in compare_images(IMAGE, again)] == [
        (ChangedInput.CODE, "model"),
        (ChangedInput.CODE, "other"),
        (ChangedInput.CODE, "third"),
    ]
    assert [str(one).split(":")[0] for one in compare_images(IMAGE, again)][1:] == [
        "code other is missing after the rebuild",
        "code third was added by the rebuild",
    ]


def test_what_the_list_of_files_says_of_the_release_is_named():
    """The same files under another tag differ by the tag."""
    other = IMAGE.manifest.replace(b'"t"', b'"u"')
    again = replace(changed(7, layer(ImagePart.CODE, "3 files", "f")), manifest=other)
    (found,) = compare_images(IMAGE, again)
    assert (found.name, found.expected, found.rebuilt) == ("mendel-manifest.json release.tag", "t", "u")


def test_layers_in_another_order():
    """The same layers in another order are that, and nothing else."""
    (found,) = compare_images(IMAGE, replace(IMAGE, layers=(*LAYERS[:3], LAYERS[4], LAYERS[3], *LAYERS[5:])))
    assert found.moved is ChangedInput.ORDER


def test_another_compressor_is_named_once():
    """However many layers it packed otherwise."""
    again = replace(IMAGE, layers=tuple(replace(one, digest=Digest(f"sha256:{'f' * 64}")) for one in LAYERS))
    (found,) = compare_images(IMAGE, again)
    assert found.moved is ChangedInput.COMPRESSOR


def test_layers_that_an_engine_keeps_unpacked_have_no_compressor():
    """Without digests of blobs nothing is said of them."""
    assert compare_images(IMAGE, replace(IMAGE, layers=tuple(replace(one, digest=None) for one in LAYERS))) == ()


def test_labels_and_settings_are_named():
    """A label that moved, one that is gone, another command; what repeats the layers is not told twice."""
    config = {"config": {"Labels": {"c": "1"}, "Cmd": ["y"]}, "created": "c", "rootfs": {"diff_ids": ["x"]}}
    found = compare_images(IMAGE, replace(IMAGE, config=config))
    assert [(one.moved, one.name, one.expected, one.rebuilt) for one in found] == [
        (ChangedInput.CONFIGURATION, "config.Cmd", '["x"]', '["y"]'),
        (ChangedInput.LABEL, "a.b", "1", None),
        (ChangedInput.LABEL, "c", None, "1"),
    ]
