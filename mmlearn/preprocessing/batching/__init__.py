"""Many clips in one batch: of like length, read by several processes, in an order that a seed decides.

Chapter: preprocessing/batching.
"""

from mmlearn.preprocessing.batching.loading import BucketSampler, loader, padded_share

__all__ = ["BucketSampler", "loader", "padded_share"]
