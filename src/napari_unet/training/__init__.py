"""Learning weights from images and labels: loss, sampling, schedule and the loop."""
