"""Writing results as other formats, piece by piece: TIFF, OME-TIFF, MRC, HDF5 and PNG."""
