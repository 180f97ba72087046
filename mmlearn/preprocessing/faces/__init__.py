"""Find faces in pictures, follow one through a clip, and cut out the face or the mouth, upright and steady.

Chapter: finetuning/speech.
"""

from typing import TYPE_CHECKING

from mmlearn.lazy import attach

if TYPE_CHECKING:
    from mmlearn.preprocessing.faces.linking import Face
    from mmlearn.preprocessing.faces.mtcnn import fetch_faces
    from mmlearn.preprocessing.faces.tracking import FaceTrack, crop_face, crop_mouth, find_faces, track_face

__all__ = ["Face", "FaceTrack", "crop_face", "crop_mouth", "fetch_faces", "find_faces", "track_face"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Face": "linking",
        "FaceTrack": "tracking",
        "crop_face": "tracking",
        "crop_mouth": "tracking",
        "fetch_faces": "mtcnn",
        "find_faces": "tracking",
        "track_face": "tracking",
    },
)
