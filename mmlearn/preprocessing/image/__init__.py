"""Pictures and clips: read, resize, crop, flip, rotate, colour, normalize, by OpenCV or by torchvision.

Each function takes one picture, or all frames of one clip, and returns the kind that it was given:

- a NumPy array as files give it, (H, W), (H, W, C) or (T, H, W, C), uint8, uint16 or float32: by OpenCV;
- a tensor as torchvision wants it, (…, C, H, W), uint8 or floating, on any device: by torchvision.transforms.v2.

Both give the same within what each function states. The values of floats are from 0 to 1. Channels are grey (1), RGB or
RGBA. What is drawn at random is drawn once for all frames of a clip. For batches on a device: `Augment`.

Chapter: preprocessing/image.
"""

from mmlearn.preprocessing.image.augment import Augment, Draw
from mmlearn.preprocessing.image.color import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    adjust_color,
    bgr_to_rgb,
    color_jitter,
    denormalize,
    drop_alpha,
    normalize,
    to_gray,
    to_uint8,
)
from mmlearn.preprocessing.image.cropping import Box, center_crop, crop, five_crop, random_crop
from mmlearn.preprocessing.image.geometry import (
    flip,
    from_letterbox,
    letterbox,
    random_resized_crop,
    resize,
    resize_matrix,
    rotate,
)
from mmlearn.preprocessing.image.reading import MAX_PIXELS, read_image

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_PIXELS",
    "Augment",
    "Box",
    "Draw",
    "adjust_color",
    "bgr_to_rgb",
    "center_crop",
    "color_jitter",
    "crop",
    "denormalize",
    "drop_alpha",
    "five_crop",
    "flip",
    "from_letterbox",
    "letterbox",
    "normalize",
    "random_crop",
    "random_resized_crop",
    "read_image",
    "resize",
    "resize_matrix",
    "rotate",
    "to_gray",
    "to_uint8",
]
