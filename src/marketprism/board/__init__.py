"""What each task last said of itself: written by all, read by `observe`."""
