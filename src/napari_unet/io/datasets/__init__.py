"""Public training sets, read in the folders and formats in which their makers give them out."""
