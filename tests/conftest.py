"""What several test files of this folder use."""

NAN, GONE = float("nan"), object()
